"""`nxmi-export parity ARTEFACT`: does it still run what was trained."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from nxmi_export.artefact import ENGINE_FACTS, Artefact, read_artefact
from nxmi_export.cli.console import ERRORS, RESULTS, bars, stages
from nxmi_export.cli.parity_files import check_writable, write_results
from nxmi_export.cli.processes import said_once_a_machine
from nxmi_export.cli.token_cache import token_cache
from nxmi_export.errors import ArtefactError, GateFailed
from nxmi_export.glue import TASKS, task_named

if TYPE_CHECKING:
    # These load torch, and --help should not.
    from nxmi_export.workflow.parity import ParityRequest

__all__ = ["parity_command"]

_EXAMPLES = """
Examples

    nxmi-export parity model.artefact --task sst2 --data glue

    nxmi-export parity model.artefact --task mrpc --data glue_data --dense ./fine-tuned

    nxmi-export parity model.artefact --task qnli --task rte --markdown summary.md

    nxmi-export parity model.artefact --task sst2 --dense ./fine-tuned --drift --bisect

    nxmi-export parity model.artefact --task mnli --margin 0.002 --strict --junit mnli.xml

    torchrun --nproc-per-node 2 -m nxmi_export parity model.artefact --task qqp --data glue

Exit codes: 0 every gate holds; 1 a gate failed, and the files say which; 2 the command line, the
data or the artefact cannot be used; 3 a library is missing; 4 internal error.
"""

_GATE, _FAULTS, _FILES = "Gate", "Finding faults", "Files"

_Tasks = Annotated[
    list[str],
    typer.Option(
        "--task", help=f"One of {', '.join(TASKS)}; again for more that the model's head fits."
    ),
]
_Data = Annotated[
    Path | None,
    typer.Option(help="A directory of Parquet files or classic GLUE TSV; default: the hub."),
]
_Checkpoint = Annotated[
    str | None, typer.Option(help="The exported checkpoint, where it was moved.")
]
_Dense = Annotated[
    str | None, typer.Option(help="The uncompressed model, to show what compression costs.")
]
_BatchTokens = Annotated[
    int, typer.Option(min=1, help="Tokens per batch at most, padding included.")
]
_MaxLength = Annotated[int, typer.Option(min=2, help="Tokens per example at most.")]
_Limit = Annotated[int | None, typer.Option(min=1, help="Examples per split at most.")]
_Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where tokenized datasets are kept; default: $XDG_CACHE_HOME/nxmi-export/tokens, "
        "with ~/.cache for what is unset.",
    ),
]
_NoCache = Annotated[bool, typer.Option("--no-cache", help="Tokenize anew, and keep nothing.")]
_Seed = Annotated[int, typer.Option(min=0, help="Of the resamples behind intervals and p-values.")]
_Captured = Annotated[
    bool,
    typer.Option(
        "--captured",
        help="Capture the graph again, and compare it before any pass: is capture at fault?",
        rich_help_panel=_FAULTS,
    ),
]
_Drift = Annotated[
    bool,
    typer.Option(
        "--drift",
        help="Say at which layer each ONNX rung drifts from PyTorch, and why; done anyway where "
        "the gate fails.",
        rich_help_panel=_FAULTS,
    ),
]
_Bisect = Annotated[
    bool,
    typer.Option(
        "--bisect",
        help="Find few layers that restore the score when they are dense (--dense) or float, and "
        "write ARTEFACT/exclusions-TASK.yaml; Ctrl-C keeps the best so far.",
        rich_help_panel=_FAULTS,
    ),
]
_BisectBudget = Annotated[
    int,
    typer.Option(min=2, help="Evaluations of the dev set at most.", rich_help_panel=_FAULTS),
]
_MaxChanged = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Unexplained changed predictions that are allowed; default: none.",
        rich_help_panel=_GATE,
    ),
]
_MaxFlips = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Changed predictions of any cause that are allowed; default: any number.",
        rich_help_panel=_GATE,
    ),
]
_MaxDrop = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Drop of the primary metric that is allowed, explained rounding ties aside; "
        "default: half a point.",
        rich_help_panel=_GATE,
    ),
]
_Margin = Annotated[
    float | None,
    typer.Option(
        help="A drop that is proved to be larger than this fails; default: 0.005, half a point.",
        rich_help_panel=_GATE,
    ),
]
_Confidence = Annotated[
    float | None,
    typer.Option(
        help="How sure such a proof must be, one-sided; default: 0.95.", rich_help_panel=_GATE
    ),
]
_Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Fail too where a drop beyond the margin is not ruled out, which small dev sets "
        "cannot, and where the engine of the artefact cannot be run.",
        rich_help_panel=_GATE,
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Everything, as JSON; default: ARTEFACT/parity-TASK.json",
        rich_help_panel=_FILES,
    ),
]
_Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Everything to read, as one page; default: ARTEFACT/report.html",
        rich_help_panel=_FILES,
    ),
]
_JUnit = Annotated[
    Path | None,
    typer.Option(
        "--junit",
        metavar="FILE",
        help="Every check of every dev set, as JUnit XML.",
        rich_help_panel=_FILES,
    ),
]
_Markdown = Annotated[
    Path | None,
    typer.Option(
        "--markdown", metavar="FILE", help="A summary in Markdown.", rich_help_panel=_FILES
    ),
]


def parity_command(
    directory: Annotated[Path, typer.Argument(metavar="ARTEFACT", help="An exported directory.")],
    task: _Tasks,
    data: _Data = None,
    checkpoint: _Checkpoint = None,
    dense: _Dense = None,
    batch_tokens: _BatchTokens = 1024,
    max_length: _MaxLength = 128,
    limit: _Limit = None,
    cache: _Cache = None,
    no_cache: _NoCache = False,
    seed: _Seed = 0,
    max_changed: _MaxChanged = None,
    max_flips: _MaxFlips = None,
    max_drop: _MaxDrop = None,
    margin: _Margin = None,
    confidence: _Confidence = None,
    strict: _Strict = False,
    captured: _Captured = False,
    drift: _Drift = False,
    bisect: _Bisect = False,
    bisect_budget: _BisectBudget = 60,
    output: _Output = None,
    html: _Html = None,
    junit: _JUnit = None,
    markdown: _Markdown = None,
) -> None:
    """Compare PyTorch, ONNX and onnxruntime on dev sets; exit code 1 where the gate fails."""
    with said_once_a_machine():
        chosen, *further = map(task_named, task)
        artefact = read_artefact(directory)
        files = {"-o": output or directory / f"parity-{'-'.join(task)}.json"}
        files["--html"] = html or directory / "report.html"
        files |= {"--junit": junit} if junit else {}
        files |= {"--markdown": markdown} if markdown else {}
        if bisect:
            files |= {f"--bisect, {name}": directory / f"exclusions-{name}.yaml" for name in task}
        check_writable(files)
        engine = _engine(artefact)
        with stages() as begin:
            begin("loading PyTorch")
            from nxmi_export.parity import Gate
            from nxmi_export.parity.statistics import Terms
            from nxmi_export.workflow.parity import ParityRequest
        limits = {"max_changed": max_changed, "max_flips": max_flips, "max_drop": max_drop}
        terms = Terms(**_given({"margin": margin, "confidence": confidence}), seed=seed)
        request = ParityRequest(
            task=chosen,
            further=tuple(further),
            data_dir=data,
            checkpoint=checkpoint,
            dense=dense,
            batch_tokens=batch_tokens,
            max_length=max_length,
            limit=limit,
            cache=token_cache(cache, wanted=not no_cache),
            captured=captured,
            drift=drift,
            bisect_budget=bisect_budget if bisect else None,
            gate=Gate(**_given(limits), terms=terms, strict=strict),
        )
        _run(artefact, request, engine, files)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given; what the others are by default is for their type to say."""
    return {name: value for name, value in options.items() if value is not None}


def _run(
    artefact: Artefact,
    request: "ParityRequest",
    engine: dict[str, Any] | None,
    files: Mapping[str, Path],
) -> None:
    from nxmi_export.report.bisection_table import bisection_table
    from nxmi_export.report.drift_table import drift_table
    from nxmi_export.report.parity_tables import parity_tables, scores_table
    from nxmi_export.workflow.parity import check_parity

    with bars() as move:
        run = check_parity(artefact, request, on_progress=move)
    if run is None:  # another process of the launch has it
        return
    write_results(artefact, request, run, engine, files)
    for warning in run.warnings:
        ERRORS.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)
    for split in run.splits:
        for table in parity_tables(split.result, split.verdict, artefact, engine):
            RESULTS.print(table)
        for table in (*drift_table(split.result), *bisection_table(split.result)):
            RESULTS.print(table)
    RESULTS.print(scores_table(run))
    kinds = {files["-o"]: "everything", files["--html"]: "a page"}
    kinds |= {path: "a recipe" for option, path in files.items() if option.startswith("--bisect")}
    for path in files.values():
        what = kinds.get(path, "a summary")
        if what != "a recipe" or path.is_file():
            RESULTS.print(f"{what} in {escape(str(path))}", soft_wrap=True, highlight=False)
    if not run.ok:
        raise GateFailed(
            f"parity of {artefact.directory}",
            expected="the gate to hold",
            found=" ".join(run.failures),
            remedy=f"see {files['-o']}",
        )


def _engine(artefact: "Artefact") -> dict[str, Any] | None:
    """The facts of the engine, where one is part of the artefact.

    A file that the manifest does not name is none: `read_artefact` has checked the others' hashes.
    """
    from nxmi_export.workflow.build import SCHEMA

    if ENGINE_FACTS not in artefact.manifest.files:
        return None
    path = artefact.path(ENGINE_FACTS)
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if facts.get("schema") != SCHEMA:
        raise ArtefactError(
            path,
            expected=f"the schema {SCHEMA}",
            found=str(facts.get("schema")),
            remedy="build the engine again",
        )
    return facts


parity_command.__doc__ = f"{parity_command.__doc__}\n{_EXAMPLES}"
