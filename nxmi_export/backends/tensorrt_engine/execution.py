"""An engine and the shapes of one batch in, something that runs batches of these shapes out."""

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends.tensorrt_engine.engine import Dimensions, Engine, EngineTensor, Shapes

if TYPE_CHECKING:
    import tensorrt as trt

    from nxmi_export.backends.tensorrt_engine.device import Buffer, RecordedGraph

__all__ = ["Execution"]


class Execution:
    """A context, memory for every input and output, and CUDA graphs of its runs.

    The first run goes through TensorRT, which allocates and compiles what a graph could not hold;
    the second is recorded, and it and all later ones launch the recording. Without `cuda_graph`
    every run goes through TensorRT. Raises ShapeError for shapes beyond every profile,
    EngineRunFailed for what TensorRT refuses, CapabilityMissing where the GPU's memory is full.
    """

    def __init__(self, engine: Engine, shapes: Shapes, *, cuda_graph: bool = True) -> None:
        self._engine, self._device = engine, engine.device
        self._cuda_graph = cuda_graph
        self._warm = False
        self._recordings: dict[int, RecordedGraph] = {}  # by how many runs each holds
        self._buffers: dict[str, Buffer] = {}
        self._shapes: dict[str, Dimensions] = {}
        self._context: trt.IExecutionContext | None = None
        profile = engine.profile_for(shapes)
        try:
            self._bind(profile, shapes)
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output of one batch, in the engine's types."""
        self.upload(feeds)
        self._execute()
        outputs = {}
        for tensor in self._engine.outputs:
            outputs[tensor.name] = np.empty(self._shapes[tensor.name], tensor.dtype)
            self._device.download(self._buffers[tensor.name], outputs[tensor.name])
        return outputs

    def upload(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Copy a batch to the GPU, each input in the type that the engine reads."""
        for tensor in self._engine.inputs:
            array = np.ascontiguousarray(feeds[tensor.name], dtype=tensor.dtype)
            self._device.upload(self._buffers[tensor.name], array)

    def timer(self, repeats: int = 1) -> Callable[[], float]:
        """Times runs of what was uploaded last: the GPU's seconds of one, found over `repeats`.

        With CUDA graphs all repeats are one recording, so that the time is not Python's.
        """

        def work() -> None:
            for _ in range(repeats):
                self.enqueue()

        self._warm_up()
        if self._cuda_graph:
            if repeats not in self._recordings:
                self._recordings[repeats] = self._device.record(work)
            launch = self._recordings[repeats].launch
        else:
            launch = work

        def run() -> float:
            # Naming the context keeps the memory that the recorded addresses point to.
            assert self.context
            return self._device.seconds(launch) / repeats

        return run

    @property
    def context(self) -> "trt.IExecutionContext":
        """What executes, until this is closed."""
        assert self._context is not None, "used after it was closed"
        return self._context

    def enqueue(self) -> None:
        """One run through TensorRT, on the device's stream."""
        with self._engine.hearing() as heard:
            done = self.context.execute_async_v3(self._device.stream)
            self._engine.require(done, "to execute", heard)

    def close(self) -> None:
        """Give back the graphs, the context and all memory; the stream must be done with them."""
        for graph in self._recordings.values():
            graph.free()
        self._context = None
        for buffer in self._buffers.values():
            buffer.free()
        self._recordings, self._buffers = {}, {}

    def _bind(self, profile: int, shapes: Shapes) -> None:
        engine = self._engine
        with engine.hearing() as heard:
            self._context = engine.context(profile)
            engine.require(self._context is not None, "to make an execution context", heard)
            for name, shape in shapes.items():
                taken = self.context.set_input_shape(name, shape)
                engine.require(taken, f"to take the shape of {name}", heard)
            for tensor in (*engine.inputs, *engine.outputs):
                shape = tuple(self.context.get_tensor_shape(tensor.name)[:])
                known = all(size >= 0 for size in shape)
                engine.require(known, f"to know the shape of {tensor.name}", heard)
                self._shapes[tensor.name] = shape
                self._buffers[tensor.name] = self._device.allocate(_bytes(tensor, shape))
            for name, buffer in self._buffers.items():
                taken = self.context.set_tensor_address(name, buffer.address)
                engine.require(taken, f"to take the address of {name}", heard)

    def _execute(self) -> None:
        if self._warm and self._cuda_graph:
            if 1 not in self._recordings:
                self._recordings[1] = self._device.record(self.enqueue)
            self._recordings[1].launch()
        else:
            self._warm_up()

    def _warm_up(self) -> None:
        self.enqueue()
        self._warm = True


def _bytes(tensor: EngineTensor, shape: Dimensions) -> int:
    return prod(shape) * tensor.dtype.itemsize
