"""A plan file and its input in, a timer of its runs on the GPU out."""

from pathlib import Path
from typing import Any

import numpy.typing as npt

from nxmi_export.backends.tensorrt_engine import Library
from nxmi_export.backends.tensorrt_engine.logger import recording
from nxmi_export.backends.tensorrt_engine.progress import Deferred
from nxmi_export.errors import EngineBuildFailed
from nxmi_export.latency.interleaved import Timer

__all__ = ["engine_timer"]

REPEATS = 20  # runs between two events, whose own resolution is half a microsecond
_MILLI = 1e-3


def engine_timer(torch: Any, library: Library, plan: Path, x: npt.NDArray[Any]) -> Timer:
    """Times one run of the engine's "x" → "y"; `torch` is a PyTorch with CUDA.

    The runs are recorded once as a CUDA graph, so that the time is the GPU's and not Python's.
    """
    context, y_shape, y_type = _context(torch, library, plan, x.shape)
    stream = torch.cuda.Stream()
    buffers = {
        "x": torch.from_numpy(x).cuda(),
        "y": torch.empty(y_shape, dtype=y_type, device="cuda"),
    }
    torch.cuda.synchronize()
    for name, buffer in buffers.items():
        context.set_tensor_address(name, buffer.data_ptr())
    context.execute_async_v3(stream.cuda_stream)  # what it allocates cannot be recorded
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(REPEATS):
            context.execute_async_v3(stream.cuda_stream)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def run() -> float:
        # Naming them keeps the memory that the recorded addresses point to.
        assert context is not None
        assert buffers
        with torch.cuda.stream(stream):
            begin.record()
            graph.replay()
            end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) * _MILLI / REPEATS

    return run


def _context(
    torch: Any, library: Library, plan: Path, shape: tuple[int, ...]
) -> tuple[Any, tuple[int, ...], Any]:
    """An execution context for inputs of `shape`, and the shape and type of its output."""
    with recording(library, Deferred()) as (logger, record):
        runtime = library.module.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan.read_bytes())
        context = None if engine is None else engine.create_execution_context()
        if context is None:
            raise EngineBuildFailed(
                f"{library.name} {library.version}: {plan.name}",
                expected="a plan that the GPU it was built for can load",
                found="; ".join(record.errors) or "a refusal without a reason",
                remedy="update the driver, or please report this",
            )
    context.set_input_shape("x", shape)
    is_float = engine.get_tensor_dtype("y") == library.module.DataType.FLOAT
    return context, tuple(context.get_tensor_shape("y")), torch.float32 if is_float else torch.int8
