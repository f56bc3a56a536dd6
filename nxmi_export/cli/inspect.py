"""`nxmi-export inspect PATH`: what is in a checkpoint or an artefact."""

import json
import sys
from typing import Annotated

import typer

from nxmi_export.cli.console import RESULTS, stages
from nxmi_export.report import inspection_table

__all__ = ["inspect_command"]

_EXAMPLES = """
Examples

    nxmi-export inspect model.pt

    nxmi-export inspect model.artefact --json
"""


def inspect_command(
    subject: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint or an artefact directory.")
    ],
    base: Annotated[
        str | None,
        typer.Option(help="For a bare state dict: the directory or hub name of its configuration."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List every linear as it is stored; verifies hashes, scales and sparsity patterns."""
    with stages() as begin:
        begin(f"reading {subject}")
        from nxmi_export.workflow.inspect import inspect

        inspection = inspect(subject, base=base)
    if as_json:
        sys.stdout.write(json.dumps(inspection.as_json(), indent=1) + "\n")
    else:
        RESULTS.print(inspection_table(inspection.as_json()))


inspect_command.__doc__ = f"{inspect_command.__doc__}\n{_EXAMPLES}"
