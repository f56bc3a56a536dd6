"""`nxmi-export doctor`: what this machine can do, and how to get what is missing."""

import json
import sys
from typing import Annotated

import typer

from nxmi_export.cli.console import RESULTS
from nxmi_export.doctor import Diagnosis, Status, examine
from nxmi_export.errors import CapabilityMissing
from nxmi_export.report.tables import diagnosis_table

__all__ = ["doctor_command"]

_EXAMPLES = """
Examples

    nxmi-export doctor

    nxmi-export doctor --json

Exit codes: 0 everything required is here; 3 something is missing.
"""


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Examine libraries, processor, GPU and driver; exit code 3 where a required one is missing."""
    diagnosis = examine()
    if as_json:
        sys.stdout.write(json.dumps(diagnosis.as_json(), indent=1) + "\n")
    else:
        RESULTS.print(diagnosis_table(diagnosis))
    if not diagnosis.ok:
        raise _missing(diagnosis)


def _missing(diagnosis: Diagnosis) -> CapabilityMissing:
    lacking = [
        each for each in diagnosis.components if each.extra is None and each.status is not Status.OK
    ]
    commands = [f"`{each.remedy}`" for each in lacking if each.remedy]
    return CapabilityMissing(
        "this machine",
        expected="every required library",
        found=", ".join(f"{each.name}{each.wanted} {each.status}" for each in lacking),
        remedy=f"run {' and '.join(commands)}" if commands else "use a supported platform",
    )


doctor_command.__doc__ = f"{doctor_command.__doc__}\n{_EXAMPLES}"
