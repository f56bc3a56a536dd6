"""How to build: what users of trtexec set, translated to builder flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.errors import UsageError

__all__ = ["EngineOptions", "apply_options"]

# The GPU generation that plans are built for where no GPU is asked: GeForce Ampere. Its INT8
# kernels also run on Ada.
DEFAULT_COMPUTE_CAPABILITY = "sm86"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Choices of one build; what is left at None keeps the library's own default."""

    compute_capability: str | None = None  # "sm86"; RTX only, TensorRT builds for its own GPU
    workspace_bytes: int | None = None
    optimization_level: int | None = None  # 0 (quick build) … 5 (thorough)
    sparse_weights: bool = True  # lets kernels that skip 2:4 zeros compete; never forces them
    tf32: bool = True
    log_path: Path | None = None  # where to keep the build log, of failed builds too


def apply_options(library: Library, config: Any, options: EngineOptions) -> str | None:
    """Set everything on a builder config; returns the compute capability, None for the own GPU.

    Raises UsageError for what this library cannot do.
    """
    trt = library.module
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.sparse_weights:
        config.set_flag(_flag(library, "SPARSE_WEIGHTS"))
    if not options.tf32:
        config.clear_flag(_flag(library, "TF32"))
    return _set_compute_capability(library, config, options.compute_capability)


def _flag(library: Library, name: str) -> Any:
    if not hasattr(library.module.BuilderFlag, name):
        raise UsageError(
            f"{library.name} {library.version}",
            expected=f"the builder flag {name}",
            found="a release without it",
            remedy="leave the option out or use another release",
        )
    return getattr(library.module.BuilderFlag, name)


def _set_compute_capability(library: Library, config: Any, wanted: str | None) -> str | None:
    if library.needs_gpu:
        if wanted is not None:
            raise UsageError(
                f"compute capability {wanted}",
                expected=f"none, because {library.name} builds for the GPU it runs on",
                found="one",
                remedy="leave it out, or build with tensorrt_rtx",
            )
        return None
    known = library.module.ComputeCapability.__members__
    names = [name.lower() for name in known if name.startswith("SM")]
    name = (wanted or DEFAULT_COMPUTE_CAPABILITY).lower()
    if name not in names:
        raise UsageError(
            f"compute capability {wanted}",
            expected=f"one of {', '.join(names)}",
            found=repr(wanted),
            remedy=f"name a GPU generation that {library.name} {library.version} builds for",
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[name.upper()], 0)
    return name
