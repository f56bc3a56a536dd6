"""The NVIDIA driver and its GPUs, read through NVML, which creates no CUDA context."""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Gpu", "NvidiaDriver", "find_driver"]

_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_SUCCESS = 0
_TEXT_BYTES = 96  # the longest name NVML writes


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device."""

    name: str
    compute_capability: str  # "sm86"
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class NvidiaDriver:
    """A driver that answers, and the devices it has."""

    version: str
    gpus: tuple[Gpu, ...]


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def find_driver(load: Callable[[str], Any] = ctypes.CDLL) -> NvidiaDriver | None:
    """The driver, or None where none is installed or it does not answer."""
    try:
        nvml = load(_LIBRARY)
    except OSError:
        return None
    if nvml.nvmlInit_v2() != _SUCCESS:
        return None
    try:
        version = ctypes.create_string_buffer(_TEXT_BYTES)
        count = ctypes.c_uint()
        if (
            nvml.nvmlSystemGetDriverVersion(version, _TEXT_BYTES) != _SUCCESS
            or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _SUCCESS
        ):
            return None
        gpus = (_gpu(nvml, index) for index in range(count.value))
        return NvidiaDriver(version.value.decode(), tuple(gpu for gpu in gpus if gpu))
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu | None:
    """The device at `index`, or None for one that this process may not look at."""
    device = ctypes.c_void_p()
    name = ctypes.create_string_buffer(_TEXT_BYTES)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), _Memory()
    answers = nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) or (
        nvml.nvmlDeviceGetName(device, name, _TEXT_BYTES)
        or nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor))
        or nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
    )
    if answers != _SUCCESS:
        return None
    return Gpu(name.value.decode(), f"sm{major.value}{minor.value}", memory.total)
