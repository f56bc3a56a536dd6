"""`nxmi-export latency MODEL`: how long its linears take on a device, for `search` to budget."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from nxmi_export.cli.console import ERRORS, RESULTS, bars
from nxmi_export.errors import OutputError, UsageError
from nxmi_export.latency import (
    DEVICES,
    KINDS,
    LatencyTable,
    Workload,
    check_device,
    parse_shapes,
    table_for,
)
from nxmi_export.output_files import check_place

__all__ = ["latency_command", "latency_table"]

_EXAMPLES = """
Examples

    nxmi-export latency ./fine-tuned-bert --device onnxruntime \\
        --threads 2 -o cpu.json

    nxmi-export latency ./fine-tuned-bert --device l4 --batch 32 \\
        --sequence 128

    nxmi-export latency --shapes 768x768,768x3072,3072x768 --device tensorrt

Exit codes: 0 done; 2 the command line or the model cannot be used; 3 the device is missing; 4 \
internal error.
"""


def latency_command(
    model: Annotated[
        str | None,
        typer.Argument(help="A Hugging Face directory, a hub name, or a model.pt; only its shape."),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help=f"Timed here, or computed from a datasheet: {', '.join(DEVICES)}."),
    ] = "onnxruntime",
    shapes: Annotated[
        str | None,
        typer.Option(help="Instead of a model: INPUTSxOUTPUTS of linears, with commas between."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples of a forward pass.")] = 8,
    sequence: Annotated[int, typer.Option(min=1, help="Tokens per example.")] = 128,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of onnxruntime; default: its own choice.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="For a bare state dict: the directory or hub name of its configuration."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The table's file; default: DEVICE.latency.json"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Time every linear of a model as float, INT8, INT8 in and out, and 2:4, or compute that."""
    path = _writable(output or Path(f"{check_device(device)}.latency.json"))
    table = _make(model, shapes, base, device, Workload(batch, sequence), threads)
    table.write(path)
    if as_json:
        sys.stdout.write(json.dumps(table.as_json(), indent=1) + "\n")
        return
    RESULTS.print(latency_table(table))
    RESULTS.print(f"everything in {escape(str(path))}", soft_wrap=True, highlight=False)
    if table.disturbance:
        ERRORS.print(f"[yellow]note:[/] {table.disturbance}", soft_wrap=True, highlight=False)


def _make(
    model: str | None,
    shapes: str | None,
    base: str | None,
    device: str,
    workload: Workload,
    threads: int | None,
) -> LatencyTable:
    with bars() as move:
        if model is None and shapes is not None:
            _refuse_base(base)
            named = parse_shapes(shapes)
            on_round = partial(move, "linears")
            table = table_for(device, named, workload.rows, threads=threads, on_round=on_round)
            return table.given(batch=workload.batch, sequence=workload.sequence)
        if model is None or shapes is not None:
            raise UsageError(
                "latency",
                expected="a model or --shapes",
                found="neither" if model is None else "both",
                remedy="name one of them",
            )
        from nxmi_export.checkpoint import read_checkpoint
        from nxmi_export.latency.of_model import latency_of_model

        checkpoint = read_checkpoint(model, base=base)
        return latency_of_model(checkpoint, device, workload, threads=threads, on_progress=move)


def _refuse_base(base: str | None) -> None:
    if base is not None:
        raise UsageError(
            "--base",
            expected="a model whose configuration it is",
            found="--shapes",
            remedy="leave --base out",
        )


def _writable(path: Path) -> Path:
    """Refuse a place for the result before the work is done, not after."""
    check_place(path, option="-o")
    if path.exists() and not LatencyTable.is_at(path):
        raise OutputError(
            path,
            expected="a latency table to replace or an unused name",
            found="another file",
            remedy="choose another with -o, or delete it yourself",
        )
    return path


def latency_table(table: LatencyTable) -> Table:
    """Milliseconds by shape and kind, each quantized one with its gain over float; 80 columns."""
    given = table.conditions
    shown = Table(
        title=f"{table.source.capitalize()} latency on {escape(table.device)}, "
        f"batch {given['batch']} x {given['sequence']} tokens, in ms",
        title_justify="left",
        caption=_caption(table),
        caption_justify="left",
    )
    shown.add_column("in x out")
    for kind in KINDS:
        shown.add_column(kind, justify="right")
    for rows, inputs, outputs in table.shapes:
        seconds = {kind: table.seconds(rows, inputs, outputs, kind) for kind in KINDS}
        gains = {kind: seconds["float"] / each for kind, each in seconds.items()}
        shown.add_row(
            f"{inputs} x {outputs}",
            f"{1e3 * seconds['float']:.3g}",
            *(f"{1e3 * seconds[kind]:.3g} ({gains[kind]:.2f}x)" for kind in KINDS[1:]),
        )
    return shown


def _caption(table: LatencyTable) -> str:
    float_type = f"float: {table.conditions['float']}"
    if table.source == "analytical":
        return f"{float_type}; a bound from the datasheet, nothing was run"
    rest = f"; a forward pass spends {1e3 * table.rest_seconds:.4g} ms outside its linears"
    return f"{float_type}{rest if table.rest else ''}"


latency_command.__doc__ = f"{latency_command.__doc__}\n{_EXAMPLES}"
