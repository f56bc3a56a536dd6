"""`nxmi-export parity ARTEFACT`: does it still run what was trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from nxmi_export.artefact import Artefact, read_artefact
from nxmi_export.backends.names import Backend
from nxmi_export.cli import parity_options as given
from nxmi_export.cli.caches import token_cache
from nxmi_export.cli.console import ERRORS, RESULTS, bars, stages
from nxmi_export.cli.parity_files import check_writable, write_results
from nxmi_export.cli.processes import said_once_a_machine
from nxmi_export.errors import GateFailed
from nxmi_export.glue import Task
from nxmi_export.task_file import task_from

if TYPE_CHECKING:
    # These load torch, and --help should not.
    from nxmi_export.parity import Gate
    from nxmi_export.workflow.parity import ParityRequest

__all__ = ["parity_command"]

_EXAMPLES = """
Examples

    nxmi-export parity model.artefact --task sst2 --data glue

    nxmi-export parity model.artefact --task mrpc --data glue_data \\
        --dense ./fine-tuned

    nxmi-export parity model.artefact --task qnli --task rte \\
        --markdown summary.md

    nxmi-export parity model.artefact --task sst2 --backend openvino

    nxmi-export parity model.artefact --task sst2 --dense ./fine-tuned \\
        --drift --bisect

    nxmi-export parity model.artefact --task rte --dense ./fine-tuned \\
        --layer-errors dense:optimized

    nxmi-export parity model.artefact --task mnli --margin 0.002 --strict \\
        --junit mnli.xml

    torchrun --nproc-per-node 2 -m nxmi_export parity model.artefact \\
        --task qqp --data glue

Exit codes: 0 every gate holds; 1 a gate failed, and the files say which; 2 the command line, the \
data or the artefact cannot be used; 3 a library is missing; 4 internal error.
"""

_PLACES = ("-o", "--html", "--junit", "--markdown")


def parity_command(
    directory: Annotated[Path, typer.Argument(metavar="ARTEFACT", help="An exported directory.")],
    task: given.Tasks,
    data: given.Data = None,
    checkpoint: given.Checkpoint = None,
    dense: given.Dense = None,
    backend: given.Backends = None,
    batch_tokens: given.BatchTokens = 1024,
    max_length: given.MaxLength = 128,
    limit: given.Limit = None,
    probe_tokens: given.ProbeTokens = 512,
    cache: given.Cache = None,
    no_cache: given.NoCache = False,
    seed: given.Seed = 0,
    max_changed: given.MaxChanged = None,
    max_flips: given.MaxFlips = None,
    max_drop: given.MaxDrop = None,
    margin: given.Margin = None,
    confidence: given.Confidence = None,
    strict: given.Strict = False,
    captured: given.Captured = False,
    drift: given.Drift = False,
    layer_errors: given.LayerErrors = None,
    bisect: given.Bisect = False,
    bisect_budget: given.BisectBudget = 60,
    output: given.Output = None,
    html: given.Html = None,
    junit: given.JUnit = None,
    markdown: given.Markdown = None,
) -> None:
    """Compare PyTorch, ONNX and what runs it on dev sets; exit code 1 where the gate fails."""
    with said_once_a_machine():
        tasks = tuple(map(task_from, task))
        artefact = read_artefact(directory)
        files = _files(artefact, tasks, (output, html, junit, markdown), limit, bisect=bisect)
        with stages() as begin:
            begin("loading PyTorch")
            from nxmi_export.cli.rung_pairs import rung_pairs
            from nxmi_export.workflow.parity import ParityRequest
        limits = {"max_changed": max_changed, "max_flips": max_flips, "max_drop": max_drop}
        terms = {"margin": margin, "confidence": confidence, "seed": seed}
        request = ParityRequest(
            task=tasks[0],
            further=tasks[1:],
            data_dir=data,
            checkpoint=checkpoint,
            dense=dense,
            backends=tuple(backend or (Backend.ONNXRUNTIME,)),
            batch_tokens=batch_tokens,
            max_length=max_length,
            limit=limit,
            probe_tokens=probe_tokens,
            cache=token_cache(cache, wanted=not no_cache),
            captured=captured,
            drift=drift,
            layer_errors=rung_pairs(layer_errors or ()),
            bisect_budget=bisect_budget if bisect else None,
            gate=_gate(limits, terms, strict=strict),
        )
        _run(artefact, request, files)


def _files(
    artefact: Artefact,
    tasks: Sequence[Task],
    asked: Sequence[Path | None],
    limit: int | None,
    *,
    bisect: bool,
) -> dict[str, Path]:
    """Every file that will be written, by the option that names it; refused where one cannot be.

    `asked` are in the order of `_PLACES`.
    """
    directory, names = artefact.directory, [each.name for each in tasks]
    # A trial must not take the place of what is known of whole dev sets.
    part = "" if limit is None else f"-limit-{limit}"
    files = {
        "-o": directory / f"parity-{'-'.join(names)}{part}.json",
        "--html": directory / f"report{part}.html",
    }
    files |= {option: path for option, path in zip(_PLACES, asked, strict=True) if path is not None}
    if bisect:
        files |= {
            f"--bisect, {name}": directory / f"exclusions-{name}{part}.yaml" for name in names
        }
    check_writable(files, artefact)
    return files


def _gate(limits: Mapping[str, Any], terms: Mapping[str, Any], *, strict: bool) -> "Gate":
    from nxmi_export.parity import Gate, statistics

    return Gate(**_given(limits), terms=statistics.Terms(**_given(terms)), strict=strict)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given; what the others are by default is for their type to say."""
    return {name: value for name, value in options.items() if value is not None}


def _run(
    artefact: Artefact,
    request: "ParityRequest",
    files: Mapping[str, Path],
) -> None:
    from nxmi_export.report.bisection_table import bisection_table
    from nxmi_export.report.drift_table import drift_table
    from nxmi_export.report.layer_errors_table import layer_errors_tables
    from nxmi_export.report.parity_tables import parity_tables, scores_table
    from nxmi_export.workflow.parity import check_parity

    engine = _engine(artefact)
    with bars() as move:
        run = check_parity(artefact, request, on_progress=move)
    if run is None:  # another process of the launch has it
        return
    written, deleted = write_results(artefact, request, run, engine, files)
    for warning in run.warnings:
        ERRORS.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)
    for split in run.splits:
        for table in parity_tables(split.result, split.verdict, artefact, engine):
            RESULTS.print(table)
        for tables in (drift_table, layer_errors_tables, bisection_table):
            for table in tables(split.result):
                RESULTS.print(table)
    RESULTS.print(scores_table(run))
    lines = [f"{what} in {path}" for path, what in written.items()]
    lines += [f"deleted the recipe of an earlier run, {path}" for path in deleted]
    for line in lines:
        RESULTS.print(escape(line), soft_wrap=True, highlight=False)
    if not run.ok:
        raise GateFailed(
            f"parity of {artefact.directory}",
            expected="the gate to hold",
            found=" ".join(run.failures),
            remedy=f"see {files['-o']}",
        )


def _engine(artefact: Artefact) -> dict[str, Any] | None:
    """The facts of the engine, where one is part of the artefact."""
    from nxmi_export.backends.tensorrt_engine.engine_facts import EngineFacts

    facts = EngineFacts.read(artefact)
    return None if facts is None else facts.as_json()


parity_command.__doc__ = f"{parity_command.__doc__}\n{_EXAMPLES}"
