"""`nxmi-export inspect PATH`: what is in a checkpoint or an artefact."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from nxmi_export.cli.console import RESULTS, stages
from nxmi_export.errors import GateFailed
from nxmi_export.report import inspection_table

__all__ = ["inspect_command"]

_EXAMPLES = """
Examples

    nxmi-export inspect model.pt

    nxmi-export inspect model.artefact --json

    nxmi-export inspect model.artefact \\
        --report model.artefact/parity-sst2.json

Exit codes: 0 read, and the usual gate of a whole --report holds; 1 that gate failed, or let more \
pass than usual, or examples are missing; 2 anything that cannot be read, was changed since, or is \
a report of other files; 4 internal error.
"""


def inspect_command(
    subject: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint or an artefact directory.")
    ],
    base: Annotated[
        str | None,
        typer.Option(help="For a bare state dict: the directory or hub name of its configuration."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A parity report that must be of the artefact's files as they are."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List every linear as it is stored; verifies hashes, scales and sparsity patterns."""
    with stages() as begin:
        begin(f"reading {subject}")
        from nxmi_export.workflow.inspect import inspect

        inspection = inspect(subject, base=base, report=report)
    if as_json:
        sys.stdout.write(json.dumps(inspection.as_json(), indent=1) + "\n")
    else:
        RESULTS.print(inspection_table(inspection.as_json()))
        if report is not None:
            told = "holds" if inspection.parity else "failed"
            told += f", but {but}" if (but := "; ".join(inspection.reservations)) else ""
            line = f"{report} is of these files, and its gate {told}"
            RESULTS.print(escape(line), soft_wrap=True, highlight=False)
    if inspection.parity is False:
        raise GateFailed(
            report,
            expected="a report whose gate holds",
            found="one whose gate failed",
            remedy="its page says what failed",
        )
    if inspection.reservations:
        raise GateFailed(
            report,
            expected="a report of whole dev sets by the usual gate",
            found="; ".join(inspection.reservations),
            remedy="run nxmi-export parity again without --limit and with the usual settings",
        )


inspect_command.__doc__ = f"{inspect_command.__doc__}\n{_EXAMPLES}"
