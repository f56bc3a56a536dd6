"""`nxmi-export parity ARTEFACT`: does it still run what was trained."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from nxmi_export.artefact import Artefact, read_artefact
from nxmi_export.cli.console import RESULTS, bars, stages, write_json
from nxmi_export.errors import ArtefactError, GateFailed, OutputError
from nxmi_export.glue import TASKS, task_named

if TYPE_CHECKING:
    # These load torch, and --help should not.
    from nxmi_export.parity.document import SplitParity
    from nxmi_export.workflow.parity import ParityRequest

__all__ = ["parity_command"]

_EXAMPLES = """
Examples

    nxmi-export parity model.artefact --task sst2 --data glue

    nxmi-export parity model.artefact --task mrpc --data glue_data --dense ./fine-tuned

    nxmi-export parity model.artefact --task mnli --max-drop 0.002 -o mnli.json
"""


_MaxChanged = Annotated[
    int | None,
    typer.Option(min=0, help="Unexplained changed predictions that are allowed; default: none."),
]
_MaxDrop = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Drop of the primary metric that is allowed; default: half a point."
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="Where to write the result; default: ARTEFACT/parity-TASK.json"
    ),
]


def parity_command(
    directory: Annotated[Path, typer.Argument(metavar="ARTEFACT", help="An exported directory.")],
    task: Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.")],
    data: Annotated[
        Path | None,
        typer.Option(help="A directory of Parquet files or classic GLUE TSV; default: the hub."),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="The exported checkpoint, where it was moved.")
    ] = None,
    dense: Annotated[
        str | None, typer.Option(help="The uncompressed model, to show what compression costs.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per batch.")] = 32,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens per example at most.")] = 128,
    limit: Annotated[int | None, typer.Option(min=1, help="Examples per split at most.")] = None,
    max_changed: _MaxChanged = None,
    max_drop: _MaxDrop = None,
    output: _Output = None,
) -> None:
    """Compare PyTorch, ONNX and onnxruntime on a dev set; exit code 1 where the gate fails."""
    chosen = task_named(task)
    artefact = read_artefact(directory)
    result = _writable(output or directory / f"parity-{task}.json")
    engine = _engine(artefact)
    with stages() as begin:
        begin("loading PyTorch")
        from nxmi_export.parity import Gate
        from nxmi_export.workflow.parity import ParityRequest
    limits: dict[str, Any] = {"max_changed": max_changed, "max_drop": max_drop}
    request = ParityRequest(
        task=chosen,
        data_dir=data,
        checkpoint=checkpoint,
        dense=dense,
        batch_size=batch_size,
        max_length=max_length,
        limit=limit,
        gate=Gate(**{name: each for name, each in limits.items() if each is not None}),
    )
    _run(artefact, request, engine, result)


def _writable(path: Path) -> Path:
    """Refuse a place for the result before the work is done, not after."""
    if not path.parent.is_dir() or path.is_dir():
        raise OutputError(
            path,
            expected="a file to write in a folder that exists",
            found="a folder" if path.is_dir() else "no such folder",
            remedy="choose another with -o",
        )
    return path


def _run(
    artefact: Artefact, request: "ParityRequest", engine: dict[str, Any] | None, result: Path
) -> None:
    from nxmi_export.parity.document import run_document
    from nxmi_export.report.parity_tables import parity_tables
    from nxmi_export.workflow.parity import check_parity

    with bars() as move:
        splits = check_parity(artefact, request, on_progress=move)
    document = run_document(
        artefact,
        splits,
        checkpoint=request.checkpoint or artefact.source(),
        max_length=min(request.max_length, artefact.manifest.position_limit),
        gate=request.gate,
    )
    write_json(result, document)
    for split in splits:
        for table in parity_tables(split.result, split.verdict, artefact, engine):
            RESULTS.print(table)
    RESULTS.print(f"everything in {escape(str(result))}", soft_wrap=True, highlight=False)
    _gate(artefact.directory, splits, result)


def _gate(directory: Path, splits: Sequence["SplitParity"], output: Path) -> None:
    failures = [failure for split in splits for failure in split.verdict.failures]
    if failures:
        raise GateFailed(
            f"parity of {directory}",
            expected="the gate to hold",
            found=" ".join(failures),
            remedy=f"see {output}",
        )


def _engine(artefact: "Artefact") -> dict[str, Any] | None:
    """The facts of the engine, where one is part of the artefact.

    A file that the manifest does not name is none: `read_artefact` has checked the others' hashes.
    """
    from nxmi_export.workflow.build import ENGINE_FACTS, SCHEMA

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
