"""The GPU's memory, one stream and its graphs, behind one seam with two implementations."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from nxmi_export.backends.nvidia_driver import NvidiaDriver, find_driver
from nxmi_export.errors import CapabilityMissing, EngineRunFailed

__all__ = [
    "Buffer",
    "Device",
    "RecordedGraph",
    "Work",
    "cuda_failed",
    "open_device",
    "out_of_memory",
]

Work: TypeAlias = Callable[[], None]
"""Something that enqueues on the device's stream and waits for nothing."""


class Buffer(Protocol):
    """Memory on the GPU, aligned to 256 bytes."""

    @property
    def address(self) -> int:
        """Where it begins."""
        ...

    def free(self) -> None:
        """Give it back; nothing that is still in the stream may use it."""
        ...


class RecordedGraph(Protocol):
    """A CUDA graph, ready to be launched as often as wanted."""

    def launch(self) -> None:
        """Enqueue everything that was recorded."""
        ...

    def free(self) -> None:
        """Forget what was recorded."""
        ...


class Device(Protocol):
    """One GPU and one stream on it, which is never the default stream.

    Everything is enqueued in order on that stream; only `download`, `wait` and `seconds` wait.
    Whatever CUDA does not do raises EngineRunFailed, often only in a later call than the one that
    caused it; what a `Work` raises leaves as it is.
    """

    @property
    def name(self) -> str:
        """What reaches the GPU, with its version."""
        ...

    @property
    def stream(self) -> int:
        """The handle of the stream, as TensorRT takes it."""
        ...

    def allocate(self, size: int) -> Buffer:
        """At least `size` bytes; raises CapabilityMissing where there are not as many."""
        ...

    def upload(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Enqueue a copy of `array`, which is free to change afterwards."""
        ...

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Wait for the stream and fill `array`."""
        ...

    def wait(self) -> None:
        """Wait for everything that was enqueued."""
        ...

    def record(self, work: Work) -> RecordedGraph:
        """Record what `work` enqueues instead of executing it."""
        ...

    def seconds(self, work: Work) -> float:
        """What the GPU takes for `work`, between two events around it."""
        ...

    def close(self) -> None:
        """Give the stream back."""
        ...


def open_device(
    subject: str, *, look_for_driver: Callable[[], NvidiaDriver | None] = find_driver
) -> Device:
    """The first GPU through PyTorch for CUDA, else through cuda-python.

    Raises CapabilityMissing, about `subject`, without a GPU and without either library.
    """
    driver = look_for_driver()
    if driver is None or not driver.gpus:
        raise CapabilityMissing(
            subject,
            expected="an NVIDIA GPU with a driver",
            found="no driver that answers" if driver is None else "a driver without a GPU",
            remedy="run on a machine with one",
        )
    reasons = []
    for opener in (_through_torch, _through_cuda_python):
        device = opener()
        if not isinstance(device, str):
            return device
        reasons.append(device)
    raise CapabilityMissing(
        subject,
        expected="a library that reaches the GPU's memory: PyTorch for CUDA, or cuda-python",
        found="; ".join(reasons),
        remedy="install PyTorch's CUDA build, or run `pip install cuda-python`",
    )


def out_of_memory(size: int, found: str) -> CapabilityMissing:
    """The error for `size` bytes that the GPU does not have."""
    return CapabilityMissing(
        "the GPU's memory",
        expected=f"room for {size / 1e6:.1f} MB more",
        found=" ".join(found.split()),
        remedy="free some, run smaller batches, or build the engine for a smaller maximum shape",
    )


def cuda_failed(call: str, found: str) -> EngineRunFailed:
    """The error for a call of CUDA, or of what stands before it, that did not succeed."""
    return EngineRunFailed(
        call,
        expected="success",
        found=found,
        remedy="look into the driver's log; an earlier kernel may have failed",
    )


def _through_torch() -> Device | str:
    """The device, or why PyTorch gives none."""
    torch = _importable("torch")
    if isinstance(torch, str):
        return torch
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} without CUDA"
    from nxmi_export.backends.tensorrt_engine.torch_device import TorchDevice

    return TorchDevice(torch)


def _through_cuda_python() -> Device | str:
    """The device, or why cuda-python gives none."""
    cudart = _importable("cuda.bindings.runtime")
    if isinstance(cudart, str):
        return cudart
    from nxmi_export.backends.tensorrt_engine.cuda_python_device import CudaPythonDevice

    return CudaPythonDevice(cudart)


def _importable(name: str) -> ModuleType | str:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        return str(error)
