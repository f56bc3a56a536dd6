"""`nxmi-export search MODEL`: which scheme each linear should get, so that least is lost."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from nxmi_export.cli import search_options as given
from nxmi_export.cli.console import ERRORS, RESULTS
from nxmi_export.cli.latency_budget import OF_THE_CLOCK, LatencyBudget
from nxmi_export.cli.processes import is_main_process, said_once_a_machine
from nxmi_export.cli.search_display import live_display
from nxmi_export.errors import UsageError
from nxmi_export.recipe import PRESETS, Scheme, recipe_from
from nxmi_export.task_file import task_from

if TYPE_CHECKING:
    # These load torch, and --help should not.
    from nxmi_export.workflow.search import SearchRequest, SearchResult

__all__ = ["search_command"]

_EXAMPLES = """
Examples

    nxmi-export search ./bert --task mrpc --data glue --target 0.125 -o found

    nxmi-export search ./bert --task mrpc --target 0.125 --nominal

    nxmi-export search ./bert --task rte --latency 0.7x --device onnxruntime

    nxmi-export search bert --task rte --target 0.2 --latency 2ms --device l4

    torchrun --nproc-per-node 2 -m nxmi_export search bert --task rte \\
        --target 0.1

Exit codes: 0 done; 2 the command line, the model or the data cannot be used, or nothing keeps \
the budget; 3 a library or the device to time is missing; 4 internal error; 130 interrupted, \
and --resume goes on.
"""

_SCHEMES = "2:4,int8,int4,2:4+int8,2:4+int4"  # as published
# What a request calls as the command line does.
_AS_GIVEN = (
    *("model", "target", "metadata", "per", "projection", "objective", "keep", "error"),
    *("proposals", "refinements", "holdout", "slice_limit", "seed", "max_length", "precision"),
    *("data_dir", "base", "resume", "overwrite"),
)


def search_command(
    context: typer.Context,
    model: given.Model,
    task: given.Task,
    target: given.Target = None,
    metadata: given.Metadata = True,
    latency: given.Latency = None,
    device: given.Device = None,
    latency_table: given.Table = None,
    batch: given.Batch = 8,
    sequence: given.Sequence = 128,
    threads: given.Threads = None,
    per: given.Per = "both",
    schemes: given.Schemes = _SCHEMES,
    recipe: given.Recipe = "deploy",
    proposals: given.Proposals = 20,
    refinements: given.Refinements = 6,
    projection: given.Projection = "reconstruction",
    objective: given.Objective = "divergence",
    keep: given.Keep = 5,
    error: given.Error = 0.05,
    holdout: given.Holdout = 0.1,
    slice_limit: given.SliceLimit = 512,
    seed: given.Seed = 0,
    max_length: given.MaxLength = 128,
    precision: given.Precision = "fp32",
    output: given.Output = None,
    data_dir: given.Data = None,
    base: given.Base = None,
    resume: given.Resume = False,
    overwrite: given.Overwrite = False,
) -> None:
    """Find the scheme that each linear should get under a budget; writes recipes for compress."""
    with said_once_a_machine():
        options = {name: context.params[name] for name in _AS_GIVEN}
        options |= {
            "task": task_from(task),
            "output": output or _default_output(model),
            "schemes": _parsed(schemes),
            "recipe": recipe_from(recipe),
            "recipe_name": recipe if recipe in PRESETS else Path(recipe).stem,
        }
        budget = LatencyBudget(latency, device, latency_table, batch, sequence, threads)
        budget.check(target, [name for name in OF_THE_CLOCK if _is_stated(context, name)])
        shown = live_display(shown=is_main_process(), metric=options["task"].primary_metric)
        with _resumable(options["output"]), shown as display:
            display.begin("loading PyTorch")
            from nxmi_export.workflow.search import SearchRequest, search_model

            request = SearchRequest(**options, latency=budget.request())
            result = search_model(request, display.hear)
        if result is not None:
            _show(result, request)


def _is_stated(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """After Ctrl-C, say whether there is something to continue from."""
    try:
        yield
    except KeyboardInterrupt:
        from nxmi_export.workflow.search.outputs import Outputs

        outputs = Outputs(folder)
        if is_main_process() and outputs.journal.exists() and not outputs.result.exists():
            again = "the same command with --resume goes on from there"
            ERRORS.print(f"[bold]stopped:[/] {again}", highlight=False, soft_wrap=True)
        raise


def _parsed(schemes: str) -> tuple[Scheme, ...]:
    try:
        return tuple(Scheme.parse(text.strip()) for text in schemes.split(","))
    except ValueError as error:
        raise UsageError(
            "--schemes",
            expected=f"schemes separated by commas, as in {_SCHEMES}",
            found=repr(schemes),
            remedy=str(error),
        ) from error


def _default_output(model: str) -> Path:
    path = Path(model)
    name = path.resolve().name if path.exists() else model.rsplit("/", 1)[-1]
    parent = path.parent if path.exists() else Path()
    return parent / f"{name.removesuffix('.pt')}.search"


def _show(result: "SearchResult", request: "SearchRequest") -> None:
    from nxmi_export.report.search_page import USUAL_LENGTH
    from nxmi_export.report.search_tables import ranked_table, search_summary_table
    from nxmi_export.workflow.search.outputs import Outputs

    facts, outputs = result.as_json(), Outputs(result.output)
    files = {
        "recipes": outputs.ranked,
        "everything": outputs.result,
        "picture": outputs.chart,
        "page": outputs.page,
    }
    for table in (
        ranked_table(facts),
        search_summary_table(facts, {name: str(path) for name, path in files.items()}),
    ):
        RESULTS.print(table)
    best = str(result.output / result.ranked[0].recipe)
    command = ["nxmi-export", "compress", request.model, "--task", request.task.argument]
    command += ["--data", str(request.data_dir)] if request.data_dir else []
    command += ["--base", request.base] if request.base else []
    usual = request.max_length == USUAL_LENGTH
    command += [] if usual else ["--max-length", str(request.max_length)]
    again = shlex.join([*command, "--recipe", best])
    RESULTS.print(f"train the best with: {escape(again)}", soft_wrap=True, highlight=False)


search_command.__doc__ = f"{search_command.__doc__}\n{_EXAMPLES}"
