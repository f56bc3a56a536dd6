"""An ONNX file and shape profiles in, a plan file and the build's own account of it out."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nxmi_export.backends.tensorrt_engine.build_failure import build_failure
from nxmi_export.backends.tensorrt_engine.build_log import (
    EngineLayer,
    exhausted_memory,
    parse_layers,
    tight_workspace,
)
from nxmi_export.backends.tensorrt_engine.configure import Ignored, configure
from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.logger import Recording, recording
from nxmi_export.backends.tensorrt_engine.options import EngineOptions
from nxmi_export.backends.tensorrt_engine.parse_onnx import parse_onnx
from nxmi_export.backends.tensorrt_engine.profile import FixedSides, ShapeProfile
from nxmi_export.backends.tensorrt_engine.progress import Deferred, OnProgress, progress_monitor
from nxmi_export.backends.tensorrt_engine.timing_cache import (
    TimingCache,
    attach_timing_cache,
    with_content,
)
from nxmi_export.errors import CapabilityMissing, EngineBuildFailed, ShapeError
from nxmi_export.output_files import atomic_file

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["BuildResult", "build_engine"]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A plan that was written, and everything needed to say what is in it."""

    plan: Path
    size_bytes: int
    sha256: str
    seconds: float
    library: Library
    compute_capabilities: tuple[str, ...]  # empty: the GPU it was built on
    profiles: tuple[ShapeProfile, ...]
    input_names: tuple[str, ...]
    is_fixed: bool  # every side of every input is, by the graph; the profile then says which
    options: EngineOptions
    ignored: tuple[Ignored, ...]  # options that change nothing in this library
    timing_cache: TimingCache
    layers: tuple[EngineLayer, ...]
    log: str = field(repr=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the engine may be slower for, each a sentence.

        Kernels beyond the scratch memory are no failure: a limit that was asked for is kept, and
        without one no other build on this GPU would have more.
        """
        line = tight_workspace(self.log)
        if line is None:
            return ()
        limit = self.options.workspace
        allowed = f"{limit} allows" if limit else "this GPU has"
        advice = f"raise {limit} or leave it out" if limit else "lower the maximum shape"
        return (
            f"kernels that need more scratch memory than {allowed} were not tried: {line}; "
            f"{advice} to let them compete",
        )


def build_engine(
    onnx_path: Path,
    plan_path: Path,
    *,
    profiles: Sequence[ShapeProfile],
    library: Library,
    options: EngineOptions | None = None,
    on_progress: OnProgress | None = None,
) -> BuildResult:
    """Build `onnx_path` and write the plan; an exception, Ctrl-C included, leaves no plan behind.

    The network is strongly typed: what is not between Q and DQ runs in the types of the graph.
    Profiles keep their order, by which a runtime picks them. Raises ArtefactError for a damaged
    graph, ShapeError for a profile without a side that the graph fixes, UsageError or
    CapabilityMissing for what an option needs and the library has not, else EngineBuildFailed.
    """
    start = time.perf_counter()
    options = options or EngineOptions()
    deferred = Deferred()
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_file(plan_path))
        logger, record = stack.enter_context(recording(library, deferred))
        stack.callback(_keep_log, record, options.log_path)
        builder = _builder(library, logger)
        network = parse_onnx(library, builder, logger, onnx_path)
        config = builder.create_builder_config()
        configured = configure(library, config, options)
        cache = attach_timing_cache(library, config, record, options.timing_cache)
        config.progress_monitor = progress_monitor(library, on_progress, deferred)
        inputs = _inputs(network, onnx_path, profiles)
        is_fixed = all(None not in (each.batch, each.sequence) for each in inputs.values())
        profiles = profiles[:1] if is_fixed else profiles
        for profile in () if is_fixed else profiles:  # TensorRT wants none where nothing varies
            _add_profile(library, builder, config, tuple(inputs), profile)
        deferred.reraise()  # from the logger, while the graph was parsed
        plan = builder.build_serialized_network(network, config)
        deferred.reraise()
        if plan is None:
            raise build_failure(onnx_path, record.errors, library, options)
        _require_whole_build(onnx_path, record, options)
        content = memoryview(plan)
        temporary.write_bytes(content)
        cache = with_content(cache, config)
    log = record.text
    return BuildResult(
        plan=plan_path,
        size_bytes=content.nbytes,
        sha256=hashlib.sha256(content).hexdigest(),
        seconds=time.perf_counter() - start,
        library=library,
        compute_capabilities=configured.compute_capabilities,
        profiles=tuple(profiles),
        input_names=tuple(inputs),
        is_fixed=is_fixed,
        options=options,
        ignored=(*configured.ignored, *_refused(cache)),
        timing_cache=cache,
        layers=parse_layers(log),
        log=log,
    )


def _builder(library: Library, logger: "trt.ILogger") -> "trt.Builder":
    try:
        return library.module.Builder(logger)
    except TypeError as error:
        if not library.needs_gpu:
            raise
        # How the bindings report a factory that returned null: no driver, or no device.
        raise CapabilityMissing(
            f"{library.name} {library.version}",
            expected="an NVIDIA GPU with a driver",
            found="a builder that does not start",
            remedy="build with tensorrt_rtx, which needs no GPU, or run on a machine with one",
        ) from error


def _inputs(
    network: "trt.INetworkDefinition", onnx_path: Path, profiles: Sequence[ShapeProfile]
) -> dict[str, FixedSides]:
    """The inputs, each of which has a batch and a sequence, with what the graph fixes of them."""
    inputs = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape[:])
        if len(shape) != 2:
            raise ShapeError(
                f"{onnx_path}: input {tensor.name}",
                expected="a batch and a sequence",
                found=f"the shape {shape}",
                remedy="export an encoder, whose inputs have these two dimensions",
            )
        inputs[tensor.name] = FixedSides(*(None if side < 0 else side for side in shape))
    for profile in profiles:
        _require_kept(inputs, profile, onnx_path)
    return inputs


def _require_kept(inputs: Mapping[str, FixedSides], profile: ShapeProfile, onnx_path: Path) -> None:
    for name, fixed in inputs.items():
        if not profile.keeps(fixed):
            sides = {"batch": fixed.batch, "sequence": fixed.sequence}
            raise ShapeError(
                f"{onnx_path}: input {name}",
                expected="shapes with its fixed "
                + " and ".join(f"{side} of {size}" for side, size in sides.items() if size),
                found=str(profile),
                remedy="leave the shapes out, or export with dynamic axes",
            )


def _add_profile(
    library: Library,
    builder: "trt.Builder",
    config: "trt.IBuilderConfig",
    inputs: Sequence[str],
    profile: ShapeProfile,
) -> None:
    """Every input gets the same three shapes."""
    result = builder.create_optimization_profile()
    low, middle, high = (
        library.module.Dims2(shape.batch, shape.sequence)
        for shape in (profile.min, profile.opt, profile.max)
    )
    for name in inputs:
        result.set_shape(name, low, middle, high)
    config.add_optimization_profile(result)


def _refused(cache: TimingCache) -> tuple[Ignored, ...]:
    return () if cache.refused is None else (Ignored("--timing-cache", cache.refused),)


def _keep_log(record: Recording, path: Path | None) -> None:
    if path is not None:
        with atomic_file(path) as temporary:
            temporary.write_text(record.text, encoding="utf-8")


def _require_whole_build(onnx_path: Path, record: Recording, options: EngineOptions) -> None:
    if line := exhausted_memory(record.text):
        # The same words are written where the limit that was asked for is too low for a kernel.
        limit = options.workspace
        raise EngineBuildFailed(
            onnx_path,
            expected="a build that could try every kernel",
            found=f"memory that could not be had: {line}",
            remedy=(f"raise {limit}, " if limit else "")
            + "free GPU memory or lower the maximum shape",
        )
