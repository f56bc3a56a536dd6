"""How to build: what users of trtexec set, as one value."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

__all__ = ["EngineOptions", "HardwareCompatibility", "Precision"]

_MIB = 1 << 20


class Precision(StrEnum):
    """In which type a network runs what is not quantized; strong typing reads it in the graph.

    `INT4`: weights packed in blocks, beside floats of the type that the graph has.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    INT4 = "int4"


class HardwareCompatibility(StrEnum):
    """On which other GPUs a plan may run; TensorRT only, RTX plans name their generations."""

    NONE = "none"
    AMPERE_PLUS = "ampere-plus"
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"

    @property
    def level(self) -> str:
        """Its name in TensorRT's HardwareCompatibilityLevel."""
        return self.name


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Choices of one build; what is left at None keeps the library's own default."""

    compute_capabilities: tuple[str, ...] = ()  # ("sm86",); RTX only, TensorRT builds for its GPU
    workspace_bytes: int | None = None
    optimization_level: int | None = None  # 0 (quick build) … 5 (thorough)
    sparse_weights: bool = True  # lets kernels that skip 2:4 zeros compete; never forces them
    tf32: bool = True
    version_compatible: bool = False  # the plan also loads in later releases
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    refit: bool = False  # weights may be replaced in the plan
    strip_weights: bool = False  # the plan comes without its weights
    timing_cache: Path | None = None  # kernel timings of earlier builds, read where the file exists
    log_path: Path | None = None  # where to keep the build log, of failed builds too

    @property
    def workspace(self) -> str | None:
        """The limit of scratch memory as it is typed, None where none was."""
        if self.workspace_bytes is None:
            return None
        return f"--workspace {self.workspace_bytes / _MIB:g}"

    def as_json(self) -> dict[str, Any]:
        """What decides the engine, as plain data; files are left out."""
        return {
            "compute_capabilities": list(self.compute_capabilities),
            "workspace_bytes": self.workspace_bytes,
            "optimization_level": self.optimization_level,
            "sparsity": "enable" if self.sparse_weights else "disable",
            "tf32": self.tf32,
            "version_compatible": self.version_compatible,
            "hardware_compatibility": str(self.hardware_compatibility),
            "refit": self.refit,
            "strip_weights": self.strip_weights,
            "profiling_verbosity": "detailed",
        }
