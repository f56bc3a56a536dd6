"""The options of `nxmi-export search`: what each takes and what --help says of it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nxmi_export.glue import TASKS

__all__ = [
    "Base",
    "Batch",
    "Data",
    "Device",
    "Error",
    "Holdout",
    "Keep",
    "Latency",
    "MaxLength",
    "Metadata",
    "Model",
    "Objective",
    "Output",
    "Overwrite",
    "Per",
    "Precision",
    "Projection",
    "Proposals",
    "Recipe",
    "Refinements",
    "Resume",
    "Schemes",
    "Seed",
    "Sequence",
    "SliceLimit",
    "Table",
    "Target",
    "Task",
    "Threads",
]

_BUDGET, _SPACE, _SCORING, _FILES = "Budget", "What is searched", "Scoring", "Files"

Model = Annotated[
    str, typer.Argument(help="A Hugging Face directory, a hub name, or a dense model.pt.")
]
Task = Annotated[
    str, typer.Option(help=f"One of {', '.join(TASKS)}, or a YAML file that describes your own.")
]
Target = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="The largest size, as a share of the encoder linears in float32: 0.125.",
        rich_help_panel=_BUDGET,
    ),
]
Metadata = Annotated[
    bool,
    typer.Option(
        "--metadata/--nominal",
        help="Whether the size counts the index of every kept weight.",
        rich_help_panel=_BUDGET,
    ),
]
Latency = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="The longest forward pass: 12ms, or 0.7x of the dense model's.",
        rich_help_panel=_BUDGET,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="onnxruntime or tensorrt: measured here; the name of a GPU: its roofline.",
        rich_help_panel=_BUDGET,
    ),
]
Table = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What `nxmi-export latency` wrote, in place of --device.",
        rich_help_panel=_BUDGET,
    ),
]
Batch = Annotated[
    int, typer.Option(min=1, help="Texts of a forward pass.", rich_help_panel=_BUDGET)
]
Sequence = Annotated[
    int, typer.Option(min=1, help="Tokens of each of them.", rich_help_panel=_BUDGET)
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="Of --device onnxruntime; default: all cores.", rich_help_panel=_BUDGET
    ),
]
Per = Annotated[
    Literal["component", "layer", "both"],
    typer.Option(
        help="One scheme a component, as published, or one a linear.", rich_help_panel=_SPACE
    ),
]
Schemes = Annotated[
    str,
    typer.Option(
        help="The schemes to choose from; 2:4, int8, int4, 2:4+int8 and 2:4+int4 by default.",
        rich_help_panel=_SPACE,
        show_default=False,  # too long for its column
    ),
]
Recipe = Annotated[
    str,
    typer.Option(
        metavar="PRESET|FILE",
        help="Everything but the schemes: placement, quantizers, training.",
        rich_help_panel=_SPACE,
    ),
]
Proposals = Annotated[
    int,
    typer.Option(
        min=1, help="Configurations of the solver that are scored.", rich_help_panel=_SPACE
    ),
]
Refinements = Annotated[
    int,
    typer.Option(
        min=0,
        help="Rounds per layer in which changes of the best so far are measured and combined.",
        rich_help_panel=_SPACE,
    ),
]
Projection = Annotated[
    Literal["magnitude", "reconstruction"],
    typer.Option(
        help="How weights are pruned and rounded for scoring: by size, or by least output error.",
        rich_help_panel=_SCORING,
    ),
]
Objective = Annotated[
    Literal["divergence", "metric"],
    typer.Option(
        help="Least divergence from the dense model, or the task's metric, as published.",
        rich_help_panel=_SCORING,
    ),
]
Keep = Annotated[
    int, typer.Option(min=1, help="Recipes to write, the best first.", rich_help_panel=_SCORING)
]
Error = Annotated[
    float,
    typer.Option(
        help="The probability that giving up early loses one of the best.",
        rich_help_panel=_SCORING,
    ),
]
Holdout = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="The share of train that is scored on.", rich_help_panel=_SCORING
    ),
]
SliceLimit = Annotated[
    int, typer.Option(min=1, help="Examples of it at most.", rich_help_panel=_SCORING)
]
Seed = Annotated[
    int, typer.Option(min=0, help="Of the order of examples.", rich_help_panel=_SCORING)
]
MaxLength = Annotated[
    int, typer.Option(min=2, help="Tokens per example at most.", rich_help_panel=_SCORING)
]
Precision = Annotated[
    Literal["fp32", "bf16"],
    typer.Option(help="What products run in.", rich_help_panel=_SCORING),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="A folder; default: MODEL's name + .search",
        rich_help_panel=_FILES,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="A directory of Parquet files or classic GLUE TSV; default: the hub.",
        rich_help_panel=_FILES,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        help="For a bare state dict: the directory or hub name of its configuration.",
        rich_help_panel=_FILES,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an interrupted search; begin anew where there is none.",
        rich_help_panel=_FILES,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an earlier search.", rich_help_panel=_FILES),
]
