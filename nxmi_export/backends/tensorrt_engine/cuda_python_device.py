"""GPU memory through cuda-python's runtime API; written against it, and not yet run on a GPU."""

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

__all__ = ["CudaPythonDevice"]

_MILLI = 1e-3


class CudaPythonDevice:
    """`cudart` is the module `cuda.bindings.runtime`.

    Each of its functions returns a tuple that begins with a status; what is not success raises
    EngineRunFailed.
    """

    def __init__(self, cudart: Any) -> None:
        self._cudart = cudart
        self.name = "cuda-python"
        # A stream that does not wait for the default one, which TensorRT asks to be left alone.
        self._stream = self._call("cudaStreamCreateWithFlags", cudart.cudaStreamNonBlocking)
        self._begin, self._end = (self._call("cudaEventCreate") for _ in range(2))

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream)

    def allocate(self, size: int) -> "_Memory":
        """Memory from `cudaMalloc`."""
        # TensorRT wants an address even of what is empty.
        status, address = self._cudart.cudaMalloc(max(size, 1))
        if status == self._cudart.cudaError_t.cudaErrorMemoryAllocation:
            raise out_of_memory(size, status.name)
        self._check("cudaMalloc", status)
        return _Memory(self, int(address))

    def upload(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Copy from pageable memory, which the driver has staged when it returns."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        source = np.ascontiguousarray(array)
        self._copy(buffer.address, source.ctypes.data, source.nbytes, kind)

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Wait for the stream and fill `array`."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, buffer.address, array.nbytes, kind)
        self.wait()

    def wait(self) -> None:
        """Wait for the stream."""
        self._call("cudaStreamSynchronize", self._stream)

    def record(self, work: Work) -> RecordedGraph:
        """Record on this stream; other threads may go on allocating."""
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            # The stream stays unusable until the recording has ended; its status says only that.
            self._cudart.cudaStreamEndCapture(self._stream)
            raise
        graph = self._call("cudaStreamEndCapture", self._stream)
        ready = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        return _Graph(self, ready)

    def seconds(self, work: Work) -> float:
        """What the GPU takes for `work`."""
        self._call("cudaEventRecord", self._begin, self._stream)
        work()
        self._call("cudaEventRecord", self._end, self._stream)
        self._call("cudaEventSynchronize", self._end)
        return float(self._call("cudaEventElapsedTime", self._begin, self._end)) * _MILLI

    def close(self) -> None:
        """Destroy the stream once it is done."""
        self.wait()
        for event in (self._begin, self._end):
            self._call("cudaEventDestroy", event)
        self._call("cudaStreamDestroy", self._stream)

    def launch(self, graph: Any) -> None:
        """Enqueue an instantiated graph."""
        self._call("cudaGraphLaunch", graph, self._stream)

    def destroy(self, function: str, handle: Any) -> None:
        """Give back what `function` gives back, once the stream no longer uses it."""
        self.wait()
        self._call(function, handle)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._call("cudaMemcpyAsync", target, source, size, kind, self._stream)

    def _call(self, function: str, *arguments: Any) -> Any:
        """The result of a runtime function, None where it has none."""
        status, *results = getattr(self._cudart, function)(*arguments)
        self._check(function, status)
        return results[0] if results else None

    def _check(self, function: str, status: Any) -> None:
        if status != self._cudart.cudaError_t.cudaSuccess:
            raise cuda_failed(f"CUDA's {function}", str(status.name))


class _Memory:
    def __init__(self, device: CudaPythonDevice, address: int) -> None:
        self._device, self.address = device, address

    def free(self) -> None:
        self._device.destroy("cudaFree", self.address)


class _Graph:
    def __init__(self, device: CudaPythonDevice, graph: Any) -> None:
        self._device, self._graph = device, graph

    def launch(self) -> None:
        self._device.launch(self._graph)

    def free(self) -> None:
        self._device.destroy("cudaGraphExecDestroy", self._graph)
