"""A plan file and its input in, a timer of its runs on the GPU out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nxmi_export.backends.tensorrt_engine import Device, Engine, Execution, Library
from nxmi_export.latency.interleaved import Timer

__all__ = ["engine_timer"]

REPEATS = 20  # runs between two events, whose own resolution is half a microsecond


@contextmanager
def engine_timer(device: Device, library: Library, plan: Path, x: NDArray[Any]) -> Iterator[Timer]:
    """Times one run of the engine's only input, "x", while the block lasts.

    The runs are recorded as a CUDA graph, so that the time is the GPU's and not Python's.
    """
    engine = Engine(plan, library, device)
    execution = Execution(engine, {"x": x.shape})
    try:
        execution.upload({"x": x})
        yield execution.timer(REPEATS)
    finally:
        execution.close()
        engine.close()
