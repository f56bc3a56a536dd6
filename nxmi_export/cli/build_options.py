"""The options of `nxmi-export build`, each with its help, and what they make of a build."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from nxmi_export.backends.tensorrt_engine.library import LibraryName
from nxmi_export.backends.tensorrt_engine.options import HardwareCompatibility, Precision
from nxmi_export.backends.tensorrt_engine.profile import FixedSides, ShapeProfile
from nxmi_export.backends.tensorrt_engine.trtexec_shapes import TrtexecShapes
from nxmi_export.errors import UsageError

__all__ = [
    "Capabilities",
    "Compatibility",
    "LibraryChoice",
    "MaxShapes",
    "MinShapes",
    "NoTf32",
    "OptShapes",
    "OptimizationLevel",
    "Output",
    "PrecisionChoice",
    "Refit",
    "Shapes",
    "SparsityChoice",
    "Strict",
    "StripWeights",
    "TimingCacheFile",
    "VersionCompatible",
    "Workspace",
    "profiles_of",
]

_SHAPES, _RUN, _PLAN = "Shapes", "How it computes", "What the plan allows"
_TRTEXEC_SHAPE = "INPUT:BxS,…"

Output: TypeAlias = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="PLAN", help="The plan of an ONNX file."),
]
Shapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SHAPES",
        rich_help_panel=_SHAPES,
        help="Batch x sequence: the smallest, the one to tune for, the largest; as below. Repeat "
        "it for several profiles.",
    ),
]
MinShapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--minShapes", metavar=_TRTEXEC_SHAPE, rich_help_panel=_SHAPES, help="As trtexec."
    ),
]
OptShapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--optShapes", metavar=_TRTEXEC_SHAPE, rich_help_panel=_SHAPES, help="As trtexec."
    ),
]
MaxShapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--maxShapes", metavar=_TRTEXEC_SHAPE, rich_help_panel=_SHAPES, help="As trtexec."
    ),
]
LibraryChoice: TypeAlias = Annotated[
    LibraryName | None, typer.Option(help="Which library builds; default: what is installed.")
]
Capabilities: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SM",
        help="A GPU generation to build for without a GPU, e.g. sm86; repeat it for several "
        "(RTX only).",
    ),
]
SparsityChoice: TypeAlias = Annotated[
    Literal["enable", "disable"],
    typer.Option(
        rich_help_panel=_RUN,
        help="Whether kernels that skip 2:4 zeros may compete; none is ever forced.",
    ),
]
PrecisionChoice: TypeAlias = Annotated[
    Precision,
    typer.Option(
        rich_help_panel=_RUN,
        help="Which graph of an artefact is built: model.onnx, model.fp16.onnx (float16 where "
        "nothing is quantized) or model.int4.onnx (weights in INT4 blocks).",
    ),
]
NoTf32: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-tf32", rich_help_panel=_RUN, help="Run what stays in float32 without TF32 rounding."
    ),
]
OptimizationLevel: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, max=5, rich_help_panel=_RUN, help="0 builds fastest, 5 searches longest."),
]
Workspace: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="MIB",
        rich_help_panel=_RUN,
        help="Scratch memory a kernel may use; default: all there is.",
    ),
]
TimingCacheFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--timing-cache",
        metavar="FILE",
        dir_okay=False,
        rich_help_panel=_RUN,
        help="Timings of earlier builds, read and extended; default: timing.cache beside the plan.",
    ),
]
VersionCompatible: TypeAlias = Annotated[
    bool,
    typer.Option("--version-compatible", rich_help_panel=_PLAN, help="Later releases load it too."),
]
Compatibility: TypeAlias = Annotated[
    HardwareCompatibility,
    typer.Option(
        "--hardware-compatibility",
        metavar="LEVEL",
        rich_help_panel=_PLAN,
        help="Other GPUs that may run it: none, ampere-plus or same-compute-capability.",
    ),
]
Refit: TypeAlias = Annotated[
    bool, typer.Option("--refit", rich_help_panel=_PLAN, help="Its weights may be replaced.")
]
StripWeights: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--strip-weights",
        rich_help_panel=_PLAN,
        help="It comes without its weights, which a refit gives back: the same ones, or any "
        "together with --refit.",
    ),
]
Strict: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Fail on what is unproven or degraded, not only on what is refuted.",
    ),
]


def profiles_of(
    shapes: Sequence[str],
    trtexec: TrtexecShapes,
    input_names: Sequence[str],
    position_limit: int | None,
    fixed: FixedSides,
) -> tuple[ShapeProfile, ...]:
    """The profiles asked for, in either spelling; one that fits the graph where none is."""
    if shapes and trtexec:
        raise UsageError(
            "shapes",
            expected="one spelling, --shapes or trtexec's",
            found="both",
            remedy="write all profiles in one of them",
        )
    if trtexec:
        return trtexec.profiles(input_names, position_limit=position_limit)
    parsed = tuple(ShapeProfile.parse(text, position_limit=position_limit) for text in shapes)
    return parsed or (ShapeProfile.default(position_limit=position_limit, fixed=fixed),)
