"""An ONNX file and a shape profile in, a plan file and the build's own account of it out."""

import hashlib
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nxmi_export.backends.tensorrt_engine.build_log import (
    EngineLayer,
    exhausted_memory,
    parse_layers,
)
from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.logger import Recording, recording
from nxmi_export.backends.tensorrt_engine.options import EngineOptions, apply_options
from nxmi_export.backends.tensorrt_engine.parse_onnx import parse_onnx
from nxmi_export.backends.tensorrt_engine.profile import ShapeProfile
from nxmi_export.backends.tensorrt_engine.progress import Deferred, OnProgress, progress_monitor
from nxmi_export.errors import CapabilityMissing, EngineBuildFailed, ShapeError
from nxmi_export.output_files import atomic_file

__all__ = ["BuildResult", "build_engine"]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A plan that was written, and everything needed to say what is in it."""

    plan: Path
    size_bytes: int
    sha256: str
    seconds: float
    library: Library
    compute_capability: str | None  # None: the GPU it was built on
    profile: ShapeProfile
    layers: tuple[EngineLayer, ...]
    log: str = field(repr=False)


def build_engine(
    onnx_path: Path,
    plan_path: Path,
    *,
    profile: ShapeProfile,
    library: Library,
    options: EngineOptions | None = None,
    on_progress: OnProgress | None = None,
) -> BuildResult:
    """Build `onnx_path` and write the plan; an exception, Ctrl-C included, leaves no plan behind.

    The network is strongly typed: what is not between Q and DQ runs in the types of the graph.
    Raises ArtefactError for a missing or damaged graph, UsageError for an option the library
    does not have, CapabilityMissing without a needed GPU, EngineBuildFailed otherwise.
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
        capability = apply_options(library, config, options)
        config.progress_monitor = progress_monitor(library, on_progress, deferred)
        config.add_optimization_profile(_profile(builder, network, profile, onnx_path))
        deferred.reraise()  # from the logger, while the graph was parsed
        plan = builder.build_serialized_network(network, config)
        deferred.reraise()
        _require_whole_build(onnx_path, plan, record)
        content = memoryview(plan)
        temporary.write_bytes(content)
    log = record.text
    return BuildResult(
        plan=plan_path,
        size_bytes=content.nbytes,
        sha256=hashlib.sha256(content).hexdigest(),
        seconds=time.perf_counter() - start,
        library=library,
        compute_capability=capability,
        profile=profile,
        layers=parse_layers(log),
        log=log,
    )


def _builder(library: Library, logger: Any) -> Any:
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


def _profile(builder: Any, network: Any, profile: ShapeProfile, onnx_path: Path) -> Any:
    """The optimization profile that gives every input the same three shapes."""
    result = builder.create_optimization_profile()
    shapes = [(shape.batch, shape.sequence) for shape in (profile.min, profile.opt, profile.max)]
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tuple(tensor.shape) != (-1, -1):
            raise ShapeError(
                f"{onnx_path}: input {tensor.name}",
                expected="a dynamic batch and sequence",
                found=f"the shape {tuple(tensor.shape)}",
                remedy="export with dynamic axes",
            )
        result.set_shape(tensor.name, *shapes)
    return result


def _keep_log(record: Recording, path: Path | None) -> None:
    if path is not None:
        with atomic_file(path) as temporary:
            temporary.write_text(record.text, encoding="utf-8")


def _require_whole_build(onnx_path: Path, plan: Any, record: Recording) -> None:
    if plan is None:
        raise EngineBuildFailed(
            onnx_path,
            expected="a plan from the builder",
            found="; ".join(record.errors) or "none, and no error in its log",
            remedy="please report this with the ONNX file",
        )
    if line := exhausted_memory(record.text):
        raise EngineBuildFailed(
            onnx_path,
            expected="a build that could try every kernel",
            found=f"memory that ran out: {line}",
            remedy="free GPU memory or lower the maximum shape",
        )
