"""Stand-ins for CUDA under PyTorch and for cuda-python, over one machine without a GPU.

Memory is this process's own, so that what an engine computes comes from the addresses it was given;
calls that a GPU would answer with a crash or with rubbish fail here at once.
"""

# ruff: noqa: N801, N802, N815  # the names are cuda-python's own

import ctypes
import enum
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as real_torch

POISON = 0xAB  # what fresh memory holds
STREAM = 77  # the handle of the only stream


class Machine:
    """Allocations, one stream that executes when it is waited for, and everything that was done."""

    def __init__(self, *, lazy: bool) -> None:
        self.allocations: dict[int, int] = {}  # address to size
        self.calls: list[str] = []
        self.recording: list[Callable[[], None]] | None = None
        self._queue: list[Callable[[], None]] = []
        self._lazy = lazy
        self.capacity = 1 << 30  # bytes
        self.fail: str | None = None  # the call of PyTorch that fails

    def allocate(self, address: int, size: int) -> None:
        assert self.recording is None, "memory allocated inside a recording"
        self.allocations[address] = size
        ctypes.memset(address, POISON, size)

    def enqueue(self, work: Callable[[], None]) -> None:
        if self.recording is not None:
            self.recording.append(work)
            return
        self._queue.append(work)
        if not self._lazy:
            self.wait()

    def wait(self) -> None:
        assert self.recording is None, "the stream was waited for inside a recording"
        while self._queue:
            self._queue.pop(0)()

    def begin_recording(self) -> None:
        self.wait()
        self.recording = []
        self.calls.append("record")

    def end_recording(self) -> list[Callable[[], None]]:
        assert self.recording is not None
        recorded, self.recording = self.recording, None
        return recorded

    def launch(self, recorded: list[Callable[[], None]]) -> None:
        self.calls.append("launch")
        for work in recorded:
            self.enqueue(work)

    def view(self, address: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert size <= self.allocations.get(address, -1), "an address outside of what is allocated"
        memory = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)


class OnGpu:
    """A tensor whose copies, both ways, can be made to fail."""

    def __init__(self, tensor: real_torch.Tensor, fail_if_asked: Callable[[str], None]) -> None:
        self._tensor, self._fail_if_asked = tensor, fail_if_asked

    def data_ptr(self) -> int:
        return self._tensor.data_ptr()

    def __getitem__(self, part: slice) -> "OnGpu":
        return OnGpu(self._tensor[part], self._fail_if_asked)

    def copy_(self, source: real_torch.Tensor) -> None:
        self._fail_if_asked("copy_")
        self._tensor.copy_(source)

    def cpu(self) -> real_torch.Tensor:
        self._fail_if_asked("cpu")
        return self._tensor.clone()


def fake_torch(machine: Machine) -> Any:
    """PyTorch with a GPU whose memory is this process's own."""
    current: list[object] = []

    def fail_if_asked(call: str) -> None:
        """As PyTorch does: the first line is CUDA's, the others are advice."""
        if machine.fail == call:
            raise RuntimeError(f"CUDA error: {call} went wrong\nCompile with `TORCH_USE_CUDA_DSA`")

    class OutOfMemoryError(RuntimeError):
        pass

    class Stream:
        cuda_stream = STREAM

        def __init__(self) -> None:
            fail_if_asked("stream")

        def synchronize(self) -> None:
            fail_if_asked("synchronize")
            machine.wait()

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: Stream) -> None:
            assert isinstance(stream, Stream), "recorded on the default stream"
            fail_if_asked("event")

        def synchronize(self) -> None:
            machine.wait()

        def elapsed_time(self, end: "Event") -> float:
            fail_if_asked("elapsed_time")
            return 2.0  # milliseconds

    class CUDAGraph:
        recorded: list[Callable[[], None]] | None = None

        def replay(self) -> None:
            assert current, "launched on the default stream"
            assert self.recorded is not None, "a graph that holds nothing"
            fail_if_asked("replay")
            machine.launch(self.recorded)

        def reset(self) -> None:
            fail_if_asked("reset")
            self.recorded = None

    @contextmanager
    def stream(which: object) -> Iterator[None]:
        current.append(which)
        try:
            yield
        finally:
            current.pop()

    @contextmanager
    def graph(into: CUDAGraph, *, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        machine.begin_recording()
        try:
            yield
        finally:
            into.recorded = machine.end_recording()
            fail_if_asked("capture_end")  # also where the block has failed, as in PyTorch

    def empty(size: int, *, dtype: Any, device: str) -> Any:
        assert current, "allocated for another stream"
        assert (dtype, device) == (real_torch.uint8, "cuda")
        if size > machine.capacity:
            raise OutOfMemoryError("CUDA out of\nmemory")
        fail_if_asked("empty")
        tensor = OnGpu(real_torch.empty(size, dtype=dtype), fail_if_asked)
        machine.allocate(tensor.data_ptr(), size)
        weakref.finalize(tensor, machine.allocations.pop, tensor.data_ptr())
        return tensor

    cuda = SimpleNamespace(
        Stream=Stream,
        Event=Event,
        CUDAGraph=CUDAGraph,
        stream=stream,
        graph=graph,
        is_available=lambda: True,
    )
    return SimpleNamespace(
        __version__="2.13.0",
        cuda=cuda,
        uint8=real_torch.uint8,
        empty=empty,
        from_numpy=real_torch.from_numpy,
        OutOfMemoryError=OutOfMemoryError,
    )


class cudaError_t(enum.Enum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorLaunchFailure = 719


class cudaMemcpyKind(enum.Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.Enum):
    cudaStreamCaptureModeThreadLocal = 1


class FakeCudart:
    """`cuda.bindings.runtime`: every call returns a tuple that begins with a status."""

    cudaError_t, cudaMemcpyKind = cudaError_t, cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._memory: dict[int, Any] = {}
        self.live: list[str] = []  # what was created and not yet destroyed
        self.fail: str | None = None

    def _ok(self, *results: Any) -> tuple[Any, ...]:
        return (cudaError_t.cudaSuccess, *results)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking
        self.live.append("stream")
        return self._ok(STREAM)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        self.live.remove("stream")
        return self._ok()

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert stream == STREAM
        assert "stream" in self.live
        if self.fail == "cudaStreamSynchronize":
            return (cudaError_t.cudaErrorLaunchFailure,)
        self._machine.wait()
        return self._ok()

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        assert size > 0
        if size > self._machine.capacity:
            return (cudaError_t.cudaErrorMemoryAllocation, None)
        memory = ctypes.create_string_buffer(size)
        address = ctypes.addressof(memory)
        self._memory[address] = memory
        self._machine.allocate(address, size)
        return self._ok(address)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self._machine.allocations[address]
        del self._memory[address]
        return self._ok()

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: cudaMemcpyKind, stream: int
    ) -> tuple[Any, ...]:
        assert stream == STREAM
        machine = self._machine
        if kind is cudaMemcpyKind.cudaMemcpyHostToDevice:
            staged = ctypes.string_at(source, size)  # read before it returns
            machine.enqueue(
                lambda: machine.view(target, np.uint8, (size,)).__setitem__(
                    slice(None), np.frombuffer(staged, np.uint8)
                )
            )
        else:
            machine.enqueue(
                lambda: ctypes.memmove(
                    target, machine.view(source, np.uint8, (size,)).tobytes(), size
                )
            )
        return self._ok()

    def cudaStreamBeginCapture(self, stream: int, mode: Any) -> tuple[Any, ...]:
        assert mode is cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._machine.begin_recording()
        return self._ok()

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        self.live.append("graph")
        return self._ok(self._machine.end_recording())

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        self.live.append("ready graph")
        return self._ok(graph)

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        self.live.remove("graph")
        return self._ok()

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple[Any, ...]:
        self._machine.launch(graph)
        return self._ok()

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[Any, ...]:
        self.live.remove("ready graph")
        return self._ok()

    def cudaEventCreate(self) -> tuple[Any, ...]:
        self.live.append("event")
        return self._ok(object())

    def cudaEventDestroy(self, event: object) -> tuple[Any, ...]:
        self.live.remove("event")
        return self._ok()

    def cudaEventRecord(self, event: object, stream: int) -> tuple[Any, ...]:
        assert stream == STREAM
        return self._ok()

    def cudaEventSynchronize(self, event: object) -> tuple[Any, ...]:
        self._machine.wait()
        return self._ok()

    def cudaEventElapsedTime(self, begin: object, end: object) -> tuple[Any, ...]:
        return self._ok(2.0)  # milliseconds
