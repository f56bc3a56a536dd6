"""GPU memory as PyTorch tensors; written against its API, and not yet run on a GPU."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends.tensorrt_engine.device import Buffer, RecordedGraph, Work, out_of_memory

__all__ = ["TorchDevice"]

_MILLI = 1e-3


class TorchDevice:
    """`torch` is the module, of a build for CUDA."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.name = f"PyTorch {torch.__version__}"
        self._stream = torch.cuda.Stream()
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream.cuda_stream)

    def allocate(self, size: int) -> "_Tensor":
        """A tensor of bytes, owned by this stream in PyTorch's allocator."""
        try:
            with self._torch.cuda.stream(self._stream):
                # TensorRT wants an address even of what is empty.
                tensor = self._torch.empty(max(size, 1), dtype=self._torch.uint8, device="cuda")
        except self._torch.OutOfMemoryError as error:
            raise out_of_memory(size, str(error)) from error
        return _Tensor(tensor)

    def upload(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Copy from pageable memory, which PyTorch has read when it returns."""
        source = self._torch.from_numpy(_bytes(array.copy()))
        with self._torch.cuda.stream(self._stream):
            _tensor(buffer)[: array.nbytes].copy_(source)

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Wait for the stream and fill `array`."""
        with self._torch.cuda.stream(self._stream):
            found = _tensor(buffer)[: array.nbytes].cpu()
        self.wait()
        _bytes(array)[:] = found.numpy()

    def wait(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def record(self, work: Work) -> RecordedGraph:
        """Record on this stream; other threads may go on allocating."""
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return _Graph(self._torch, graph, self._stream)

    def seconds(self, work: Work) -> float:
        """What the GPU takes for `work`."""
        with self._torch.cuda.stream(self._stream):
            self._begin.record()
            work()
            self._end.record()
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end)) * _MILLI

    def close(self) -> None:
        """Wait for the stream; PyTorch owns it."""
        self.wait()


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
        with self._torch.cuda.stream(self._stream):
            self._graph.replay()

    def free(self) -> None:
        self._graph.reset()


def _tensor(buffer: Buffer) -> Any:
    assert isinstance(buffer, _Tensor)  # a device is given its own buffers
    assert buffer.tensor is not None
    return buffer.tensor


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The same memory as bytes; `array` is contiguous."""
    return array.reshape(-1).view(np.uint8)
