"""`nxmi-export build ARTEFACT`: build a TensorRT engine and prove its precision."""

from pathlib import Path
from typing import Annotated

import typer

from nxmi_export.backends.tensorrt_engine.library import LibraryName
from nxmi_export.cli.console import RESULTS, bars
from nxmi_export.errors import GateFailed
from nxmi_export.report.tables import engine_table

__all__ = ["build_command"]

_EXAMPLES = """
Examples

    nxmi-export build model.artefact

    nxmi-export build model.artefact --compute-capability sm89

    nxmi-export build model.artefact --fp16

    nxmi-export build model.artefact --shapes min=1x8,opt=64x128,max=64x128
"""
_MIB = 1 << 20

_Shapes = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPES",
        help="Batch x sequence: the smallest, the one to tune for, the largest; as above.",
    ),
]
_Strict = Annotated[
    bool, typer.Option("--strict", help="Fail on what is unproven, not only on what is refuted.")
]
_Workspace = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="MIB", help="Scratch memory a kernel may use; default: all there is."
    ),
]
_NoTf32 = Annotated[
    bool, typer.Option("--no-tf32", help="Run what stays in float32 without TF32 rounding.")
]
_Fp16 = Annotated[
    bool,
    typer.Option("--fp16", help="Build model.fp16.onnx, of an artefact exported with --fp16."),
]


def build_command(
    directory: Annotated[Path, typer.Argument(metavar="ARTEFACT", help="An exported directory.")],
    shapes: _Shapes = None,
    compute_capability: Annotated[
        str | None,
        typer.Option(help="The GPU generation to build for without a GPU, e.g. sm86 (RTX only)."),
    ] = None,
    library: Annotated[
        LibraryName | None, typer.Option(help="Which library builds; default: what is installed.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="0 builds fastest, 5 searches longest.")
    ] = None,
    workspace: _Workspace = None,
    no_tf32: _NoTf32 = False,
    fp16: _Fp16 = False,
    strict: _Strict = False,
) -> None:
    """Build model.plan ahead of time; TensorRT-RTX needs no GPU for it."""
    from nxmi_export.artefact import FP16_MODEL, MODEL, read_artefact
    from nxmi_export.backends.tensorrt_engine import EngineOptions, ShapeProfile, find_library
    from nxmi_export.workflow.build import BUILD_LOG, build

    artefact = read_artefact(directory)
    limit = artefact.manifest.position_limit
    profile = (
        ShapeProfile.parse(shapes, position_limit=limit)
        if shapes
        else ShapeProfile.default(position_limit=limit)
    )
    options = EngineOptions(
        compute_capability=compute_capability,
        optimization_level=optimization_level,
        workspace_bytes=None if workspace is None else workspace * _MIB,
        tf32=not no_tf32,
    )
    with bars() as move:
        report = build(
            artefact,
            profile=profile,
            library=find_library(library),
            options=options,
            on_progress=lambda step: (
                move(step.phase, step.done, step.total) if step.parent is None else None
            ),
            graph=FP16_MODEL if fp16 else MODEL,
        )
    RESULTS.print(engine_table(report.as_json()))
    if report.refuted or (strict and not report.proved):
        raise GateFailed(
            directory / BUILD_LOG,
            expected="every promise proved" if strict else "no promise refuted",
            found=f"INT8 {report.coverage.verdict}, sparse kernels {report.sparsity.verdict}",
            remedy="read engine.json for the modules and the reasons",
        )


build_command.__doc__ = f"{build_command.__doc__}\n{_EXAMPLES}"
