"""An engine and a batch in, the time of every layer out, as TensorRT's own profiler tells it."""

import statistics
from typing import TYPE_CHECKING, Any

from nxmi_export.backends.runner import Feeds
from nxmi_export.backends.tensorrt_engine.engine import Engine
from nxmi_export.backends.tensorrt_engine.execution import Execution
from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.progress import Deferred

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["profile_document", "profile_layers"]

_MILLI = 1e-3


def profile_layers(engine: Engine, feeds: Feeds, runs: int) -> dict[str, list[float]]:
    """Seconds by layer, one for each of `runs`, in the order of execution.

    Their sum exceeds the time of a run: layers are timed one by one, and never as a CUDA graph.
    """
    shapes = {tensor.name: feeds[tensor.name].shape for tensor in engine.inputs}
    execution = Execution(engine, shapes, cuda_graph=False)
    deferred, times = Deferred(), dict[str, list[float]]()
    try:
        execution.upload(feeds)
        execution.enqueue()  # the first run allocates and compiles
        engine.device.wait()
        execution.context.profiler = _profiler(engine.library, deferred, times)
        for _ in range(runs):
            execution.enqueue()  # waits for the run, to report its layers
        engine.device.wait()
    finally:
        execution.close()
    deferred.reraise()
    return times


def profile_document(times: dict[str, list[float]], runs: int) -> list[dict[str, Any]]:
    """The same as trtexec's --exportProfile writes it; a layer that runs twice counts twice."""
    total = sum(map(sum, times.values()))
    layers = [
        {
            "name": name,
            "timeMs": sum(each) / _MILLI,
            "averageMs": sum(each) / runs / _MILLI,
            "medianMs": statistics.median(each) / _MILLI,
            "percentage": 100 * sum(each) / total if total else 0.0,
        }
        for name, each in times.items()
    ]
    return [{"count": runs}, *layers]


def _profiler(
    library: Library, deferred: Deferred, times: dict[str, list[float]]
) -> "trt.IProfiler":
    if TYPE_CHECKING:
        from tensorrt import IProfiler
    else:
        IProfiler = library.module.IProfiler

    class Profiler(IProfiler):  # type: ignore[misc]  # Any, where no stubs are found
        def __init__(self) -> None:
            super().__init__()

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            with deferred:
                times.setdefault(layer_name, []).append(ms * _MILLI)

    return Profiler()
