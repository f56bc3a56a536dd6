"""A build in, the command line of NVIDIA's own tool that does the same out.

The tool is `trtexec` for TensorRT and `tensorrt_rtx` for TensorRT-RTX; spellings are those of
release 10.13 and later. Options that the library ignores are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.options import EngineOptions, HardwareCompatibility
from nxmi_export.backends.tensorrt_engine.profile import Shape, ShapeProfile

__all__ = ["TrtexecFiles", "trtexec_command"]

_MIB = 1 << 20
_COMPATIBILITY = {
    HardwareCompatibility.AMPERE_PLUS: "ampere+",
    HardwareCompatibility.SAME_COMPUTE_CAPABILITY: "sameComputeCapability",
}


@dataclass(frozen=True, slots=True)
class TrtexecFiles:
    """What the command reads and writes, as it is to be written there."""

    graph: str
    plan: str
    layers: str
    timing_cache: str | None = None


def trtexec_command(
    files: TrtexecFiles,
    profiles: Sequence[ShapeProfile],
    input_names: Sequence[str],
    options: EngineOptions,
    library: Library,
) -> tuple[str, ...]:
    """The program and its arguments."""
    return (
        "tensorrt_rtx" if library.is_rtx else "trtexec",
        f"--onnx={files.graph}",
        f"--saveEngine={files.plan}",
        *_shapes(profiles, input_names),
        *_precision(library, options),
        *(_of_rtx(options) if library.is_rtx else _of_tensorrt(options, files)),
        *_common(options),
        "--profilingVerbosity=detailed",
        f"--exportLayerInfo={files.layers}",
        "--verbose",
        "--skipInference",
    )


def _shapes(profiles: Sequence[ShapeProfile], input_names: Sequence[str]) -> Iterator[str]:
    def spelled(shape: Shape) -> str:
        return ",".join(f"{_quoted(name)}:{shape}" for name in input_names)

    for index, profile in enumerate(profiles):
        if len(profiles) > 1:
            yield f"--profile={index}"
        yield f"--minShapes={spelled(profile.min)}"
        yield f"--optShapes={spelled(profile.opt)}"
        yield f"--maxShapes={spelled(profile.max)}"


def _quoted(name: str) -> str:
    """A name with a colon in it, as TensorFlow's exporter makes them, ends at its first without."""
    return f"'{name}'" if ":" in name else name


def _precision(library: Library, options: EngineOptions) -> Iterator[str]:
    # Weak typing ends with TensorRT 10, and the option with it; 11 no longer has this flag either.
    if "EXPLICIT_BATCH" in library.module.NetworkDefinitionCreationFlag.__members__:
        yield "--stronglyTyped"
    if not options.tf32:
        yield "--noTF32"


def _of_tensorrt(options: EngineOptions, files: TrtexecFiles) -> Iterator[str]:
    yield f"--sparsity={'enable' if options.sparse_weights else 'disable'}"
    if options.optimization_level is not None:
        yield f"--builderOptimizationLevel={options.optimization_level}"
    if files.timing_cache is not None:
        yield f"--timingCacheFile={files.timing_cache}"
    if options.hardware_compatibility in _COMPATIBILITY:
        yield f"--hardwareCompatibilityLevel={_COMPATIBILITY[options.hardware_compatibility]}"


def _of_rtx(options: EngineOptions) -> Iterator[str]:
    names = (name.removeprefix("sm") for name in options.compute_capabilities)
    yield f"--computeCapabilities={','.join(names)}"


def _common(options: EngineOptions) -> Iterator[str]:
    if options.workspace_bytes is not None:
        yield f"--memPoolSize=workspace:{options.workspace_bytes / _MIB:g}"
    if options.version_compatible:
        yield "--versionCompatible"
    if options.refit:
        yield "--refit"
    if options.strip_weights:
        yield "--stripWeights"
