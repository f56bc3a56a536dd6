"""`nxmi-export compress MODEL`: bring a fine-tuned encoder to N:M sparsity and INT8 or INT4."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from nxmi_export.cli.compression_display import live_display
from nxmi_export.cli.console import ERRORS, RESULTS
from nxmi_export.cli.processes import is_main_process, said_once_a_machine
from nxmi_export.glue import TASKS
from nxmi_export.recipe import PRESETS, Recipe, preset, recipe_from
from nxmi_export.task_file import task_from

if TYPE_CHECKING:
    # These load torch, and --help should not.
    from nxmi_export.workflow.compress import CompressResult

__all__ = ["compress_command"]

_EXAMPLES = """
Examples

    nxmi-export compress ./fine-tuned-bert --task sst2 --data glue \\
        -o model.pt

    nxmi-export compress ./fine-tuned-bert --task mrpc --recipe w4 --epochs 5

    nxmi-export compress ./fine-tuned-bert --task rte --evaluate-on holdout

    torchrun --nproc-per-node 2 -m nxmi_export compress dense.pt --task mnli

Exit codes: 0 done; 1 training diverged; 2 the command line, the model or the data cannot be \
used; 3 a library or a device is missing; 4 internal error; 130 interrupted, and --resume goes \
on.
"""


def _list_presets(wanted: bool) -> None:
    if wanted:
        from nxmi_export.report.compression_tables import presets_table

        RESULTS.print(presets_table({name: (preset(name), _opening(name)) for name in PRESETS}))
        raise typer.Exit


def _opening(name: str) -> str:
    """The comment that a preset's file begins with."""
    text = (files("nxmi_export.recipe") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    count = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.removeprefix("#").strip() for line in lines[:count])


_Model = Annotated[
    str, typer.Argument(help="A Hugging Face directory, a hub name, or a dense model.pt.")
]
_Task = Annotated[
    str, typer.Option(help=f"One of {', '.join(TASKS)}, or a YAML file that describes your own.")
]
_Data = Annotated[
    Path | None,
    typer.Option(help="A directory of Parquet files or classic GLUE TSV; default: the hub."),
]
_Base = Annotated[
    str | None,
    typer.Option(help="For a bare state dict: the directory or hub name of its configuration."),
]
_Seed = Annotated[int, typer.Option(min=0, help="Of the data's order and of dropout.")]
_MaxLength = Annotated[int, typer.Option(min=2, help="Tokens per example at most.")]
_Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The model file; default: MODEL's name + .RECIPE.pt"),
]
_Recipe = Annotated[
    str, typer.Option(metavar="PRESET|FILE", help="A preset's name or a YAML file's path.")
]
_Epochs = Annotated[
    int | None,
    typer.Option(min=0, help="In place of the recipe's; 0 projects and calibrates only."),
]
_LearningRate = Annotated[
    float | None,
    typer.Option(
        metavar="RATE",
        help="In place of the recipe's; with --resume also in place of the snapshot's.",
    ),
]
_Limit = Annotated[int | None, typer.Option(min=1, help="Training examples at most.")]
_Precision = Annotated[
    Literal["fp32", "bf16", "fp16"],
    typer.Option(help="What products run in; weights stay in float32."),
]
_Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Train through torch.compile: shorter steps after minutes of compiling. Needs a C++ "
        "compiler, or Triton for a GPU.",
    ),
]
_Accumulation = Annotated[
    int, typer.Option(min=1, help="Parts that each step's batch is computed in, to save memory.")
]
_EvaluateOn = Annotated[
    Literal["dev", "holdout"],
    typer.Option(help="The dev set, or a slice of train that is then not trained on."),
]
_Holdout = Annotated[
    float, typer.Option(min=0, max=1, help="The share of train that --evaluate-on holdout takes.")
]
_Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an interrupted run from its last snapshot; begin anew where there is none.",
    ),
]
_CheckpointMinutes = Annotated[
    float, typer.Option(min=0, help="Minutes between two snapshots; each epoch ends with one.")
]
_Tracker = Annotated[
    Literal["tensorboard", "mlflow"] | None, typer.Option(help="Also record the run there.")
]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier output or unfinished run.")
]
_ListPresets = Annotated[
    bool,
    typer.Option(
        "--list-presets", callback=_list_presets, is_eager=True, help="Show the recipes and exit."
    ),
]


def compress_command(
    model: _Model,
    task: _Task,
    data: _Data = None,
    recipe: _Recipe = "deploy",
    output: _Output = None,
    base: _Base = None,
    epochs: _Epochs = None,
    learning_rate: _LearningRate = None,
    seed: _Seed = 0,
    limit: _Limit = None,
    max_length: _MaxLength = 128,
    precision: _Precision = "fp32",
    compiled: _Compile = False,
    accumulation: _Accumulation = 1,
    evaluate_on: _EvaluateOn = "dev",
    holdout: _Holdout = 0.1,
    resume: _Resume = False,
    checkpoint_minutes: _CheckpointMinutes = 5.0,
    tracker: _Tracker = None,
    overwrite: _Overwrite = False,
    list_presets: _ListPresets = False,
) -> None:
    """Prune and quantize a fine-tuned encoder, train it, and measure what was kept."""
    with said_once_a_machine():
        chosen, name = task_from(task), recipe if recipe in PRESETS else Path(recipe).stem
        changes = {"epochs": epochs, "learning_rate": learning_rate}
        resolved = _with_training(recipe_from(recipe), changes)
        place = output or _default_output(model, name)
        shown = live_display(shown=is_main_process(), metric=chosen.primary_metric)
        with _resumable(place), shown as display:
            display.begin("loading PyTorch")
            from nxmi_export.workflow.compress import CompressRequest, compress_model

            request = CompressRequest(
                model=model,
                task=chosen,
                output=place,
                recipe=resolved,
                recipe_name=name,
                data_dir=data,
                base=base,
                seed=seed,
                limit=limit,
                max_length=max_length,
                precision=precision,
                compiled=compiled,
                accumulation=accumulation,
                evaluate_on=evaluate_on,
                holdout=holdout,
                snapshot_seconds=60 * checkpoint_minutes,
                resume=resume,
                tracker=tracker,
                overwrite=overwrite,
                adjusted=learning_rate is not None,
            )
            result = compress_model(request, display.hear)
        if result is not None:
            _show(result)


@contextmanager
def _resumable(output: Path) -> Iterator[None]:
    """After Ctrl-C, say whether there is something to continue from."""
    try:
        yield
    except KeyboardInterrupt:
        from nxmi_export.compression.training import snapshot_step
        from nxmi_export.workflow.compress.outputs import Outputs

        step = snapshot_step(Outputs(output).snapshots)
        if step is not None and is_main_process():
            again = f"the same command with --resume continues after step {step}"
            ERRORS.print(f"[bold]stopped:[/] {again}", highlight=False, soft_wrap=True)
        raise


def _with_training(recipe: Recipe, changes: Mapping[str, float | None]) -> Recipe:
    mapping = recipe.as_mapping()
    mapping["training"] |= {name: value for name, value in changes.items() if value is not None}
    return Recipe.from_mapping(mapping, source="command line")


def _default_output(model: str, recipe: str) -> Path:
    path = Path(model)
    name = path.resolve().name if path.exists() else model.rsplit("/", 1)[-1]
    parent = path.parent if path.exists() else Path()
    return parent / f"{name.removesuffix('.pt')}.{recipe}.pt"


def _show(result: "CompressResult") -> None:
    from nxmi_export.report.compression_tables import layers_table, metrics_table, summary_table
    from nxmi_export.report.schemes_in_words import int4_as_stored
    from nxmi_export.workflow.compress.outputs import Outputs

    facts, outputs = result.as_json(), Outputs(result.output)
    places = {
        "model": outputs.model,
        "everything": outputs.result,
        "log": outputs.log,
        "plot": outputs.plot,
    }
    written = {name: str(path) for name, path in places.items() if path.exists()}
    for table in (layers_table(facts), metrics_table(facts), summary_table(facts, written)):
        RESULTS.print(table)
    bits = (each.bits for each in result.layers.values())
    for note in int4_as_stored(bits, result.recipe.placement):
        RESULTS.print(escape(f"note: {note}"), soft_wrap=True, highlight=False)
    if result.recipe.activations.mode == "dynamic":
        wanted = "for an export compress with activations: {mode: static}"
        follows = f"scales per token run in PyTorch alone; {wanted}"
    else:
        follows = f"export it with: nxmi-export export {shlex.quote(str(outputs.model))}"
    RESULTS.print(escape(follows), soft_wrap=True, highlight=False)


compress_command.__doc__ = f"{compress_command.__doc__}\n{_EXAMPLES}"
