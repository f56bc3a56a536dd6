"""`nxmi-export build SUBJECT`: build a TensorRT engine and prove its precision."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from nxmi_export.artefact import is_artefact, read_artefact
from nxmi_export.backends.tensorrt_engine import (
    BuildProgress,
    EngineOptions,
    FixedSides,
    HardwareCompatibility,
    Precision,
    ShapeProfile,
    TrtexecShapes,
    find_library,
)
from nxmi_export.backends.tensorrt_engine.library import LibraryName
from nxmi_export.backends.tensorrt_engine.progress import OnProgress
from nxmi_export.cli import build_options as given
from nxmi_export.cli.console import ERRORS, RESULTS, bars
from nxmi_export.errors import GateFailed, UsageError
from nxmi_export.output_files import check_place
from nxmi_export.report.engine_table import engine_table

if TYPE_CHECKING:
    from nxmi_export.workflow.engine_report import EngineReport

__all__ = ["build_command"]

_EXAMPLES = """
Examples

    nxmi-export build model.artefact

    nxmi-export build model.artefact --compute-capability sm86 \\
        --compute-capability sm89

    nxmi-export build model.artefact --shapes min=1x8,opt=1x64,max=1x128 \\
        --shapes min=8x64,opt=64x128,max=64x128

    nxmi-export build other-tool.onnx -o other-tool.plan \\
        --minShapes=input_ids:1x8,mask:1x8 \\
        --optShapes=input_ids:8x64,mask:8x64 \\
        --maxShapes=input_ids:8x128,mask:8x128

Exit codes: 0 built, and nothing is refuted; 1 the linter refuses the graph or the build log \
refutes a claim, under --strict also what is degraded or unproven; 2 the command line or the file \
cannot be used; 3 the library is missing; 4 internal error.
"""
_MIB = 1 << 20
_PLANS = (".plan", ".engine")

_Subject = Annotated[
    Path, typer.Argument(metavar="ARTEFACT", help="An exported directory, or any ONNX file.")
]


def build_command(
    subject: _Subject,
    output: given.Output = None,
    library: given.LibraryChoice = None,
    compute_capability: given.Capabilities = None,
    shapes: given.Shapes = None,
    min_shapes: given.MinShapes = None,
    opt_shapes: given.OptShapes = None,
    max_shapes: given.MaxShapes = None,
    precision: given.PrecisionChoice = Precision.FP32,
    sparsity: given.SparsityChoice = "enable",
    no_tf32: given.NoTf32 = False,
    optimization_level: given.OptimizationLevel = None,
    workspace: given.Workspace = None,
    timing_cache: given.TimingCacheFile = None,
    version_compatible: given.VersionCompatible = False,
    hardware_compatibility: given.Compatibility = HardwareCompatibility.NONE,
    refit: given.Refit = False,
    strip_weights: given.StripWeights = False,
    strict: given.Strict = False,
) -> None:
    """Build a plan ahead of time; TensorRT-RTX needs no GPU for it."""
    options = EngineOptions(
        compute_capabilities=tuple(compute_capability or ()),
        workspace_bytes=None if workspace is None else workspace * _MIB,
        optimization_level=optimization_level,
        sparse_weights=sparsity == "enable",
        tf32=not no_tf32,
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatibility,
        refit=refit,
        strip_weights=strip_weights,
        timing_cache=timing_cache,
    )
    trtexec = TrtexecShapes(min_shapes or (), opt_shapes or (), max_shapes or ())
    request = _Request(shapes or (), trtexec, library, options)
    with bars() as move:

        def show(step: BuildProgress) -> None:
            if step.parent is None:
                move(step.phase, step.done, step.total)

        folder = ""
        if subject.suffix == ".onnx" and not subject.is_dir():
            report = _build_file(subject, _plan_of(subject, output, precision), request, show)
        else:
            report = _build_artefact(subject, output, precision, request, show)
            # The command is kept in the artefact, and names its files from there.
            folder = f"cd {shlex.quote(str(report.result.plan.parent))} && "
    RESULTS.print(engine_table(report.as_json()))
    line = f"the same with NVIDIA's tool: {folder}{shlex.join(report.trtexec)}"
    RESULTS.print(line, soft_wrap=True, highlight=False, markup=False)
    for warning in report.result.warnings:
        ERRORS.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)
    _gate(report, strict)


@dataclass(frozen=True)
class _Request:
    """What a command line asks of any build."""

    shapes: Sequence[str]
    trtexec: TrtexecShapes
    library: LibraryName | None
    options: EngineOptions

    def profiles(
        self, inputs: Sequence[str], limit: int | None, fixed: FixedSides
    ) -> tuple[ShapeProfile, ...]:
        return given.profiles_of(self.shapes, self.trtexec, inputs, limit, fixed)


def _build_artefact(
    directory: Path, output: Path | None, precision: Precision, request: _Request, show: OnProgress
) -> "EngineReport":
    from nxmi_export.workflow.build import build

    if output is not None:
        raise UsageError(
            f"-o {output}",
            expected="none, because an artefact keeps its engine inside",
            found="one",
            remedy="leave it out, or build the ONNX file inside the artefact",
        )
    artefact = read_artefact(directory)
    manifest = artefact.manifest
    return build(
        artefact,
        profiles=request.profiles(manifest.input_names, manifest.position_limit, FixedSides()),
        library=find_library(request.library),
        options=request.options,
        precision=precision,
        on_progress=show,
    )


def _build_file(graph: Path, plan: Path, request: _Request, show: OnProgress) -> "EngineReport":
    from nxmi_export.workflow.build import build_file
    from nxmi_export.workflow.read_graph import (
        fixed_sides,
        input_names,
        position_limit,
        read_graph,
    )

    model = read_graph(graph)
    limit = position_limit(model)
    return build_file(
        graph,
        plan,
        profiles=request.profiles(input_names(model), limit, fixed_sides(model)),
        library=find_library(request.library),
        options=request.options,
        on_progress=show,
    )


def _plan_of(graph: Path, output: Path | None, precision: Precision) -> Path:
    """Where the plan of an ONNX file goes."""
    if precision is not Precision.FP32:
        raise UsageError(
            f"--precision {precision}",
            expected="an artefact, which holds one graph for each precision",
            found=f"the file {graph}, whose types are as they are",
            remedy="leave the option out",
        )
    plan = output or graph.with_suffix(_PLANS[0])
    if plan.suffix not in _PLANS:
        raise UsageError(
            f"-o {plan}",
            expected=f"a name that ends in {' or '.join(_PLANS)}",
            found=repr(plan.name),
            remedy="rename it",
        )
    if is_artefact(plan.absolute().parent):
        raise UsageError(
            f"-o {plan}",
            expected="a plan outside of an artefact, whose manifest would not know it",
            found="one inside",
            remedy="build the artefact itself, or name another folder with -o",
        )
    check_place(plan, option="-o")
    return plan


def _gate(report: "EngineReport", strict: bool) -> None:
    degraded = report.degraded if strict else ()
    if not report.refuted and not (strict and not report.proved) and not degraded:
        return
    found = f"INT8 {report.int8.told}, sparse kernels {report.sparse_kernels.told}"
    if degraded:
        first = f"{degraded[0].rule} at {degraded[0].module or degraded[0].node}"
        found += f", and {len(degraded)} degraded by the graph, first {first}"
    raise GateFailed(
        report.result.plan.parent / report.files.log,
        expected="every promise proved" if strict else "no promise refuted",
        found=found,
        remedy=f"read {report.files.facts} for the modules and the reasons",
    )


build_command.__doc__ = f"{build_command.__doc__}\n{_EXAMPLES}"
