"""A GPU's name and shapes of linears in, the least time each could take there out.

The roofline (Williams, Waterman and Patterson, 2009): a linear takes no less than its operations
at the peak rate, and no less than its bytes at the bandwidth. Real kernels reach neither, and 2:4
gains far less than the factor 2 of its peak, so these tables order schemes rather than promise
milliseconds; they say "analytical" wherever they are shown.
"""

from collections.abc import Sequence

from nxmi_export.latency.gpus import GpuPeaks, gpu_named
from nxmi_export.latency.shapes import LinearShape
from nxmi_export.latency.table import KINDS, Gemm, Kind, LatencyTable

__all__ = ["LAUNCH", "roofline"]

# Seconds between two kernels of one stream, in order of magnitude. It keeps the small linears of a
# small batch from looking free; at large ones it does not matter.
LAUNCH = 2e-6

_FLOAT_BYTES = 2  # FP16, which GPUs run dense models in
# Of each weight under 2:4: half an INT8 code, and 2 bits that say where each kept one stood.
_SPARSE_WEIGHT_BYTES = (8 + 2) / 2 / 8


def roofline(gpu: str, shapes: Sequence[LinearShape], rows: int) -> LatencyTable:
    """max(operations / peak, bytes / bandwidth) + launch of every shape in every kind.

    "float" is FP16. "int8" reads codes and writes FP16; "int8 out" and "int8 2:4" read and write
    codes, and are the same on a GPU without 2:4. Raises UsageError for an unknown GPU.
    """
    peaks = gpu_named(gpu)
    gemms = [Gemm(rows, *shape, kind) for shape in shapes for kind in KINDS]
    return LatencyTable(
        {gemm: _seconds(peaks, gemm) for gemm in gemms},
        "analytical",
        peaks.name,
        {
            "rows": rows,
            "method": "roofline of peak rates and bandwidth; nothing was run",
            "peaks": peaks.source,
            "seconds of a launch": LAUNCH,
            "float": "float16",
        },
    )


def _seconds(peaks: GpuPeaks, gemm: Gemm) -> float:
    kind: Kind = "int8 out" if _has_no_sparsity(peaks, gemm) else gemm.kind
    operations = 2 * gemm.rows * gemm.inputs * gemm.outputs
    return max(operations / _peak(peaks, kind), _bytes(gemm, kind) / peaks.bandwidth) + LAUNCH


def _has_no_sparsity(peaks: GpuPeaks, gemm: Gemm) -> bool:
    return gemm.kind == "int8 2:4" and peaks.int8_sparse is None


def _peak(peaks: GpuPeaks, kind: Kind) -> float:
    if kind == "float":
        return peaks.fp16
    return peaks.int8_sparse if kind == "int8 2:4" and peaks.int8_sparse else peaks.int8


def _bytes(gemm: Gemm, kind: Kind) -> float:
    """Every value read or written once."""
    in_bytes, weight_bytes, out_bytes = {
        "float": (_FLOAT_BYTES, _FLOAT_BYTES, _FLOAT_BYTES),
        "int8": (1, 1, _FLOAT_BYTES),
        "int8 out": (1, 1, 1),
        "int8 2:4": (1, _SPARSE_WEIGHT_BYTES, 1),
    }[kind]
    return (
        gemm.rows * gemm.inputs * in_bytes
        + gemm.inputs * gemm.outputs * weight_bytes
        + gemm.rows * gemm.outputs * out_bytes
    )
