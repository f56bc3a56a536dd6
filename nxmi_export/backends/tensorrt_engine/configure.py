"""Options in, a builder config that has them out, and which of them this library ignores."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.options import EngineOptions, HardwareCompatibility
from nxmi_export.errors import UsageError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Configured", "Ignored", "configure"]

# The GPU generation that plans are built for where no GPU is asked: GeForce Ampere. Its INT8
# kernels also run on Ada.
DEFAULT_COMPUTE_CAPABILITY = "sm86"

# Measured with TensorRT-RTX 1.7.1: with and without them the plans are the same bytes. The tests
# build with and without them too, and fail with the first release in which one begins to matter.
_SAME_PLAN = "TensorRT-RTX builds the same plan with and without it"
_SAME_LEVELS = "TensorRT-RTX builds the same plan at every level"


@dataclass(frozen=True, slots=True)
class Ignored:
    """An option that was asked for and changes nothing in this library."""

    option: str  # as on the command line
    reason: str

    def as_json(self) -> dict[str, str]:
        """Plain data."""
        return {"option": self.option, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Configured:
    """What became of the options."""

    compute_capabilities: tuple[str, ...]  # empty: the GPU it is built on
    ignored: tuple[Ignored, ...]


def configure(library: Library, config: "trt.IBuilderConfig", options: EngineOptions) -> Configured:
    """Set everything on a builder config, layer names and kernels in the log included.

    Raises UsageError for what this library refuses.
    """
    trt = library.module
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    for name, (option, wanted) in _flags(options).items():
        if wanted:
            _set_flag(library, config, name, option)
    ignored = [*_without_effect(library, options), *_set_compatibility(library, config, options)]
    capabilities = _set_compute_capabilities(library, config, options.compute_capabilities)
    return Configured(capabilities, tuple(ignored))


def _flags(options: EngineOptions) -> dict[str, tuple[str, bool]]:
    """Builder flag → its option, and whether it is wanted."""
    return {
        "SPARSE_WEIGHTS": ("--sparsity enable", options.sparse_weights),
        "VERSION_COMPATIBLE": ("--version-compatible", options.version_compatible),
        "REFIT": ("--refit", options.refit),
        # Alone it keeps refitting with the very same weights possible, as trtexec has it.
        "STRIP_PLAN": ("--strip-weights", options.strip_weights),
    }


def _set_flag(library: Library, config: "trt.IBuilderConfig", name: str, option: str) -> None:
    flag = library.module.BuilderFlag.__members__.get(name)
    if flag is None:
        raise _refused(library, option, f"the builder flag {name}", "a release without it")
    config.set_flag(flag)
    if not config.get_flag(flag):
        raise _refused(
            library, option, f"a builder that takes the flag {name}", "one that does not"
        )


def _set_compatibility(
    library: Library, config: "trt.IBuilderConfig", options: EngineOptions
) -> list[Ignored]:
    wanted = options.hardware_compatibility
    if wanted is HardwareCompatibility.NONE:
        return []
    option = f"--hardware-compatibility {wanted}"
    levels = library.module.HardwareCompatibilityLevel.__members__
    if wanted.level not in levels:
        known = ", ".join(level for level in levels)
        raise _refused(library, option, f"the level {wanted.level}", f"a release with {known}")
    config.hardware_compatibility_level = levels[wanted.level]
    # RTX takes the assignment, warns in its log, and goes on with NONE.
    kept = config.hardware_compatibility_level
    if kept == levels[wanted.level]:
        return []
    return [Ignored(option, f"{library.name} {library.version} keeps the level {kept.name}")]


def _without_effect(library: Library, options: EngineOptions) -> list[Ignored]:
    if not library.is_rtx:
        return []
    found = []
    if options.sparse_weights:
        found.append(Ignored("--sparsity enable", _SAME_PLAN))
    if options.optimization_level is not None:
        option = f"--optimization-level {options.optimization_level}"
        found.append(Ignored(option, _SAME_LEVELS))
    return found


def _refused(library: Library, option: str, expected: str, found: str) -> UsageError:
    leave_out = "pass --sparsity disable" if "sparsity" in option else f"leave {option} out"
    return UsageError(
        f"{library.name} {library.version}",
        expected=expected,
        found=found,
        remedy=f"{leave_out} or use another release",
    )


def _set_compute_capabilities(
    library: Library, config: Any, wanted: tuple[str, ...]
) -> tuple[str, ...]:
    """Name the GPU generations; `config` is Any because only TensorRT-RTX has this part."""
    if library.needs_gpu:
        if wanted:
            raise UsageError(
                f"compute capability {', '.join(wanted)}",
                expected=f"none, because {library.name} builds for the GPU it runs on",
                found=f"{len(wanted)}" if len(wanted) > 1 else "one",
                remedy="leave it out, or build with tensorrt_rtx",
            )
        return ()
    rtx: Any = library.module
    known = rtx.ComputeCapability.__members__
    generations = [name.lower() for name in known if name.startswith("SM")]
    names = tuple(dict.fromkeys(name.lower() for name in wanted or (DEFAULT_COMPUTE_CAPABILITY,)))
    for name in names:
        if name not in generations:
            raise UsageError(
                f"compute capability {name}",
                expected=f"one of {', '.join(generations)}",
                found=repr(name),
                remedy=f"name a GPU generation that {library.name} {library.version} builds for",
            )
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(known[name.upper()], index)
    return names
