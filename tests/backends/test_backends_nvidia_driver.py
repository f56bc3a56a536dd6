import ctypes
from typing import Any

import pytest

from nxmi_export.backends.nvidia_driver import Gpu, NvidiaDriver, find_driver

OK, NO_PERMISSION, NOT_FOUND = 0, 4, 6


class FakeNvml:
    """Answers as NVML does: through pointers, with a status as the result."""

    def __init__(self, gpus: list[Gpu], *, init: int = OK, version: int = OK) -> None:
        self.gpus = gpus
        self.init = init
        self.version = version
        self.shut_down = False

    def nvmlInit_v2(self) -> int:  # noqa: N802  # NVML's own names
        return self.init

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.shut_down = True
        return OK

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        text.value = b"580.65.06"
        return self.version

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return OK

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:  # noqa: N802
        device._obj.value = index + 1
        return OK if self.gpus[index].memory_bytes else NO_PERMISSION

    def nvmlDeviceGetName(self, device: ctypes.c_void_p, text: Any, size: int) -> int:  # noqa: N802
        text.value = self._gpu(device).name.encode()
        return OK

    def nvmlDeviceGetCudaComputeCapability(  # noqa: N802
        self, device: ctypes.c_void_p, major: Any, minor: Any
    ) -> int:
        digits = self._gpu(device).compute_capability.removeprefix("sm")
        major._obj.value, minor._obj.value = int(digits[:-1]), int(digits[-1])
        return OK

    def nvmlDeviceGetMemoryInfo(self, device: ctypes.c_void_p, memory: Any) -> int:  # noqa: N802
        memory._obj.total = self._gpu(device).memory_bytes
        return OK

    def _gpu(self, device: ctypes.c_void_p) -> Gpu:
        assert device.value is not None
        return self.gpus[device.value - 1]


AMPERE = Gpu("NVIDIA A10", "sm86", 24 << 30)
BLACKWELL = Gpu("NVIDIA RTX PRO 6000", "sm120", 96 << 30)
FORBIDDEN = Gpu("", "sm00", 0)


def test_driver_and_gpus_are_read() -> None:
    nvml = FakeNvml([AMPERE, BLACKWELL])
    assert find_driver(lambda name: nvml) == NvidiaDriver("580.65.06", (AMPERE, BLACKWELL))
    assert nvml.shut_down


def test_a_gpu_this_process_may_not_look_at_is_left_out() -> None:
    driver = find_driver(lambda name: FakeNvml([FORBIDDEN, AMPERE]))
    assert driver == NvidiaDriver("580.65.06", (AMPERE,))


def test_a_driver_without_gpus_is_still_a_driver() -> None:
    assert find_driver(lambda name: FakeNvml([])) == NvidiaDriver("580.65.06", ())


@pytest.mark.parametrize(
    "nvml", [FakeNvml([AMPERE], init=NOT_FOUND), FakeNvml([AMPERE], version=NOT_FOUND)]
)
def test_a_driver_that_does_not_answer_is_none(nvml: FakeNvml) -> None:
    assert find_driver(lambda name: nvml) is None


def test_a_machine_without_the_library_has_none() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert find_driver(load) is None


@pytest.mark.gpu
def test_the_driver_of_this_machine_is_read() -> None:
    driver = find_driver()
    assert driver is not None
    assert driver.gpus[0].memory_bytes > 1 << 30
