"""`nxmi-export doctor`: what this machine can do, and how to get what is missing."""

import json
import sys
from typing import Annotated

import typer

from nxmi_export.cli.console import RESULTS
from nxmi_export.doctor import examine
from nxmi_export.report.tables import diagnosis_table

__all__ = ["doctor_command"]

_EXAMPLES = """
Examples

    nxmi-export doctor

    nxmi-export doctor --json
"""


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Examine libraries, processor, GPU and driver."""
    diagnosis = examine()
    if as_json:
        sys.stdout.write(json.dumps(diagnosis.as_json(), indent=1) + "\n")
    else:
        RESULTS.print(diagnosis_table(diagnosis))


doctor_command.__doc__ = f"{doctor_command.__doc__}\n{_EXAMPLES}"
