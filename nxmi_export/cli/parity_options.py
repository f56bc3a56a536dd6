"""The options of `nxmi-export parity`: what each takes and what --help says of it."""

from pathlib import Path
from typing import Annotated

import typer

from nxmi_export.backends.names import Backend
from nxmi_export.glue import TASKS

__all__ = [
    "Backends",
    "BatchTokens",
    "Bisect",
    "BisectBudget",
    "Cache",
    "Captured",
    "Checkpoint",
    "Confidence",
    "Data",
    "Dense",
    "Drift",
    "Html",
    "JUnit",
    "LayerErrors",
    "Limit",
    "Margin",
    "Markdown",
    "MaxChanged",
    "MaxDrop",
    "MaxFlips",
    "MaxLength",
    "NoCache",
    "Output",
    "ProbeTokens",
    "Seed",
    "Strict",
    "Tasks",
]

_GATE, _FAULTS, _FILES = "Gate", "Finding faults", "Files"

Tasks = Annotated[
    list[str],
    typer.Option(
        "--task",
        help=f"One of {', '.join(TASKS)}, or a YAML file that describes one of your own; again for "
        "more that the model's head fits.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="A directory of Parquet files or classic GLUE TSV; default: the hub."),
]
Checkpoint = Annotated[
    str | None, typer.Option(help="The exported checkpoint, where it was moved.")
]
Backends = Annotated[
    list[Backend] | None,
    typer.Option(
        "--backend",
        metavar="LIBRARY",
        help="What runs the artefact, again for more: onnxruntime, which always does, and openvino "
        "for model.onnx on OpenVINO as another rung.",
    ),
]
Dense = Annotated[
    str | None, typer.Option(help="The uncompressed model, to show what compression costs.")
]
BatchTokens = Annotated[
    int, typer.Option(min=1, help="Tokens per batch at most, padding included.")
]
MaxLength = Annotated[int, typer.Option(min=2, help="Tokens per example at most.")]
ProbeTokens = Annotated[
    int,
    typer.Option(
        min=2,
        help="Tokens of the longest probes at most: made-up inputs that use positions, token types "
        "and words that the dev set does not.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Examples per split at most; the default names of results then end in -limit-N.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where tokenized datasets are kept; default: nxmi-export/tokens of $XDG_CACHE_HOME or "
        "~/.cache.",
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Tokenize anew, and keep nothing.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the resamples behind intervals and p-values.")]
Captured = Annotated[
    bool,
    typer.Option(
        "--captured",
        help="Capture the graph again, and compare it before any pass: is capture at fault?",
        rich_help_panel=_FAULTS,
    ),
]
Drift = Annotated[
    bool,
    typer.Option(
        "--drift",
        help="Say at which layer each ONNX rung drifts from PyTorch, and why; done anyway where "
        "the gate fails, and for the float16 file.",
        rich_help_panel=_FAULTS,
    ),
]
LayerErrors = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RUNG:RUNG",
        help="Measure how far every layer of the second rung is from the first's, as in "
        "dense:compressed; again for more pairs. Rungs: dense (--dense), compressed, captured "
        "(--captured), written, shifted, optimized, float16, int4.",
        rich_help_panel=_FAULTS,
    ),
]
Bisect = Annotated[
    bool,
    typer.Option(
        "--bisect",
        help="Find few layers that restore the score when they are dense (--dense) or float, and "
        "write ARTEFACT/exclusions-TASK.yaml, or delete that of an earlier run where none are "
        "needed or none help; Ctrl-C keeps the best so far. Under --limit N the name ends in "
        "-limit-N.",
        rich_help_panel=_FAULTS,
    ),
]
BisectBudget = Annotated[
    int,
    typer.Option(min=2, help="Evaluations of the dev set at most.", rich_help_panel=_FAULTS),
]
MaxChanged = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Unexplained changed predictions that are allowed; default: none.",
        rich_help_panel=_GATE,
    ),
]
MaxFlips = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Changed predictions of any cause that are allowed; default: any number.",
        rich_help_panel=_GATE,
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Drop of the primary metric that is allowed, explained rounding ties aside; "
        "default: half a point.",
        rich_help_panel=_GATE,
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        help="A drop that is proved to be larger than this fails; default: 0.005, half a point.",
        rich_help_panel=_GATE,
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="How sure such a proof must be, one-sided; default: 0.95.", rich_help_panel=_GATE
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Fail too where a drop beyond the margin is not ruled out, which small dev sets "
        "cannot, and where the engine of the artefact cannot be run.",
        rich_help_panel=_GATE,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Everything, as JSON; default: ARTEFACT/parity-TASK.json",
        rich_help_panel=_FILES,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Everything to read, as one page; default: ARTEFACT/report.html",
        rich_help_panel=_FILES,
    ),
]
JUnit = Annotated[
    Path | None,
    typer.Option(
        "--junit",
        metavar="FILE",
        help="Every check of every dev set, as JUnit XML.",
        rich_help_panel=_FILES,
    ),
]
Markdown = Annotated[
    Path | None,
    typer.Option(
        "--markdown", metavar="FILE", help="A summary in Markdown.", rich_help_panel=_FILES
    ),
]
