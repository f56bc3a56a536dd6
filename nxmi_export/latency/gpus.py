"""Peak rates of GPUs by name, as NVIDIA's own datasheets and architecture papers print them."""

from collections.abc import Mapping
from dataclasses import dataclass

from nxmi_export.errors import UsageError

__all__ = ["GPUS", "GpuPeaks", "gpu_named"]

_TERA = 1e12
_GIGA = 1e9


@dataclass(frozen=True, slots=True)
class GpuPeaks:
    """What one GPU could do at its boost clock; nothing reaches these rates in practice."""

    name: str
    fp16: float  # dense tensor-core operations a second (a multiplication and an addition are two)
    int8: float  # dense tensor-core operations a second
    int8_sparse: float | None  # the same counting 2:4's zeros as done; None: no 2:4
    bandwidth: float  # bytes a second
    source: str


def _gpu(
    name: str, fp16: float, int8: float, sparse: float | None, bandwidth: float, source: str
) -> GpuPeaks:
    """Rates in TFLOPS and TOPS, bandwidth in GB/s, as the papers print them."""
    int8_sparse = None if sparse is None else sparse * _TERA
    return GpuPeaks(name, fp16 * _TERA, int8 * _TERA, int8_sparse, bandwidth * _GIGA, source)


# Rates with FP32 accumulation for FP16. Where a datasheet prints only the rate with sparsity, the
# dense one is half of it, as its footnote says.
GPUS: Mapping[str, GpuPeaks] = {
    "t4": _gpu("T4", 65, 130, None, 320, "T4 datasheet"),
    "a10": _gpu("A10", 125, 250, 500, 600, "A10 datasheet"),
    "a30": _gpu("A30", 165, 330, 661, 933, "A30 datasheet"),
    "a100": _gpu("A100 80GB SXM", 312, 624, 1248, 2039, "A100 80GB datasheet"),
    "l4": _gpu("L4", 121, 242.5, 485, 300, "L4 datasheet (485 INT8 and 242 FP16 with sparsity)"),
    "l40s": _gpu("L40S", 362, 733, 1466, 864, "L40S datasheet"),
    "rtx3090": _gpu("GeForce RTX 3090", 71, 284, 568, 936, "Ampere GA102 paper, appendix A"),
    "rtx4090": _gpu("GeForce RTX 4090", 165.2, 660.6, 1321.2, 1008, "Ada paper, appendix A"),
    "h100": _gpu("H100 SXM", 989.5, 1979, 3958, 3350, "H100 datasheet (rates with sparsity)"),
    "h200": _gpu("H200 SXM", 989.5, 1979, 3958, 4800, "H200 datasheet (rates with sparsity)"),
    # The GPU alone, without the two accelerators beside it that "275 TOPS" counts too. The brief
    # prints INT8; a tensor core of this generation does FP16 at half its INT8 rate.
    "orin": _gpu("Jetson AGX Orin 64GB", 42.5, 85, 170, 204.8, "Jetson AGX Orin technical brief"),
}


def gpu_named(name: str) -> GpuPeaks:
    """The GPU of that name, in any case; raises UsageError listing all for another."""
    found = GPUS.get(name.lower())
    if found is None:
        raise UsageError(
            f"GPU {name!r}",
            expected=f"one of {', '.join(GPUS)}",
            found="a name whose datasheet is not known here",
            remedy="name one of these, or measure on the GPU itself with --device tensorrt",
        )
    return found
