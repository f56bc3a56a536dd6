"""A number of threads in, how many operations a second this processor reaches through onnxruntime.

As `model.cpu.onnx` is run: uint8 codes times int8 codes, exactly, on every processor.
"""

from collections.abc import Callable

from nxmi_export.bench.limits import Peaks
from nxmi_export.errors import CapabilityMissing
from nxmi_export.latency import LinearShape
from nxmi_export.latency.measure_onnxruntime import measure_onnxruntime

__all__ = ["measure_peaks"]

# Large enough to be bound by arithmetic, and small enough that slow cores take seconds.
SHAPES = (LinearShape(1024, 4096), LinearShape(4096, 1024))
ROWS = 512
_ROUNDS = 8


def measure_peaks(
    threads: int | None, on_round: Callable[[int, int], None] = lambda done, total: None
) -> Peaks | str:
    """The peaks with that many threads (None: as many as it chooses), or why there are none."""
    try:
        table = measure_onnxruntime(
            SHAPES,
            ROWS,
            threads=threads,
            rounds=_ROUNDS,
            kinds=("float", "int8"),
            on_round=on_round,
        )
    except CapabilityMissing as refusal:
        return str(refusal)
    rates: dict[str, float] = {}
    for gemm, seconds in table.entries.items():
        rate = 2 * gemm.rows * gemm.inputs * gemm.outputs / seconds
        rates[gemm.kind] = max(rate, rates.get(gemm.kind, 0.0))
    return Peaks(float32=rates["float"], int8=rates["int8"])
