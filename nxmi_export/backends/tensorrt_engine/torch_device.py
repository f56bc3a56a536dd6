"""GPU memory as PyTorch tensors; written against its API, and not yet run on a GPU."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends.tensorrt_engine.device import (
    Buffer,
    RecordedGraph,
    Work,
    cuda_failed,
    out_of_memory,
)
from nxmi_export.backends.tensorrt_engine.progress import Deferred

__all__ = ["TorchDevice"]

_MILLI = 1e-3


class TorchDevice:
    """`torch` is the module, of a build for CUDA.

    What CUDA does not do, PyTorch raises as a RuntimeError, and this as EngineRunFailed.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.name = f"PyTorch {torch.__version__}"
        with _told("first use of the GPU"):
            self._stream = torch.cuda.Stream()
            self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream.cuda_stream)

    def allocate(self, size: int) -> "_Tensor":
        """A tensor of bytes, owned by this stream in PyTorch's allocator."""
        with _told("allocation"), self._current():
            try:
                # TensorRT wants an address even of what is empty.
                tensor = self._torch.empty(max(size, 1), dtype=self._torch.uint8, device="cuda")
            except self._torch.OutOfMemoryError as error:
                raise out_of_memory(size, str(error)) from error
        return _Tensor(tensor)

    def upload(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Copy from pageable memory, which PyTorch has read when it returns."""
        source = self._torch.from_numpy(_bytes(array.copy()))
        with _told("copy to the GPU"), self._current():
            _tensor(buffer)[: array.nbytes].copy_(source)

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Wait for the stream and fill `array`."""
        with _told("copy from the GPU"), self._current():
            found = _tensor(buffer)[: array.nbytes].cpu()
        self.wait()
        _bytes(array)[:] = found.numpy()

    def wait(self) -> None:
        """Wait for the stream."""
        with _told("wait for the stream"):
            self._stream.synchronize()

    def record(self, work: Work) -> RecordedGraph:
        """Record on this stream; other threads may go on allocating."""
        cuda, from_work = self._torch.cuda, Deferred()
        try:
            with _told("recording of a CUDA graph"):
                graph = cuda.CUDAGraph()
                mode = "thread_local"
                capture = cuda.graph(graph, stream=self._stream, capture_error_mode=mode)
                with capture, from_work:
                    work()
        finally:
            # What it raised may have spoilt the recording, whose failure would hide the cause.
            from_work.reraise()
        return _Graph(self._torch, graph, self._stream)

    def seconds(self, work: Work) -> float:
        """What the GPU takes for `work`."""
        with _told("event before the work"):
            self._begin.record(self._stream)
        work()
        with _told("event after the work"):
            self._end.record(self._stream)
            self._end.synchronize()
            return float(self._begin.elapsed_time(self._end)) * _MILLI

    def close(self) -> None:
        """Wait for the stream; PyTorch owns it."""
        self.wait()

    def _current(self) -> AbstractContextManager[None]:
        """PyTorch's own work goes to this stream, inside of the block."""
        found: AbstractContextManager[None] = self._torch.cuda.stream(self._stream)
        return found


class _Tensor:
    def __init__(self, tensor: Any) -> None:
        self.tensor: Any | None = tensor
        self.address = int(tensor.data_ptr())

    def free(self) -> None:
        self.tensor = None


class _Graph:
    def __init__(self, torch: Any, graph: Any, stream: Any) -> None:
        self._torch, self._graph, self._stream = torch, graph, stream

    def launch(self) -> None:
        with _told("launch of a CUDA graph"), self._torch.cuda.stream(self._stream):
            self._graph.replay()

    def free(self) -> None:
        with _told("release of a CUDA graph"):
            self._graph.reset()


@contextmanager
def _told(call: str) -> Iterator[None]:
    """Raise EngineRunFailed for a RuntimeError of PyTorch in the block."""
    try:
        yield
    except RuntimeError as error:
        # CUDA's own words are on the first line, how to compile PyTorch for more of them below.
        found = str(error).strip().partition("\n")[0]
        raise cuda_failed(f"PyTorch's {call}", found or type(error).__name__) from error


def _tensor(buffer: Buffer) -> Any:
    assert isinstance(buffer, _Tensor)  # a device is given its own buffers
    assert buffer.tensor is not None
    return buffer.tensor


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The same memory as bytes; `array` is contiguous."""
    return array.reshape(-1).view(np.uint8)
