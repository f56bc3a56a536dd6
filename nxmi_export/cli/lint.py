"""`nxmi-export lint FILE`: what TensorRT would refuse, spoil or waste, before any build."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from nxmi_export.cli.console import RESULTS, stages
from nxmi_export.errors import GateFailed, UsageError

__all__ = ["lint_command"]

_EXAMPLES = """
Examples

    nxmi-export lint model.artefact

    nxmi-export lint other-tool.onnx --json

    nxmi-export lint other-tool.onnx --fix -o fixed.onnx

Exit codes: 0 ready to build; 1 something would be refused, altered or degraded; 2 the file \
cannot be used; 4 internal error.
"""

_Subject = Annotated[
    Path, typer.Argument(metavar="FILE_OR_ARTEFACT", help="Any ONNX file, or an artefact.")
]
_Fix = Annotated[bool, typer.Option("--fix", help="Write a copy with what can be mended exactly.")]
_Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="The mended copy.")
]
_Requantize = Annotated[
    bool,
    typer.Option("--requantize", help="With --fix: mend also what has to be rounded anew."),
]
_Capability = Annotated[str, typer.Option(help="The GPU generation to build for, e.g. sm86.")]
_Sequence = Annotated[
    int | None,
    typer.Option(min=1, metavar="TOKENS", help="The longest input that will be built for."),
]


def lint_command(
    subject: _Subject,
    fix: _Fix = False,
    output: _Output = None,
    requantize: _Requantize = False,
    compute_capability: _Capability = "sm86",
    sequence: _Sequence = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Find what TensorRT's parser, builder and fusions would stumble over; needs no TensorRT."""
    _check_options(fix, output, requantize)
    with stages() as begin:
        begin(f"reading {subject}")
        from nxmi_export.report.lint_table import lint_table
        from nxmi_export.workflow.lint import LintRequest, lint_graph
        from nxmi_export.workflow.lint_gate import capability_of

        capability = capability_of(compute_capability)
        report = lint_graph(LintRequest(subject, capability, sequence, output, requantize))
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), indent=1) + "\n")
    else:
        RESULTS.print(lint_table(report.as_json()))
    if not report.is_ready:
        counts = report.counts()
        raise GateFailed(
            output or subject,
            expected="nothing that TensorRT refuses, alters or degrades",
            found=f"{counts['refuse']} refused, {counts['alter']} altered and "
            f"{counts['degrade']} degraded",
            remedy="do what the findings say"
            + ("" if fix else ", or mend what is fixable with --fix -o FILE"),
        )


def _check_options(fix: bool, output: Path | None, requantize: bool) -> None:
    if fix != (output is not None):
        raise UsageError(
            "--fix",
            expected="together with -o FILE, the mended copy",
            found="one without the other",
            remedy="name both or none",
        )
    if requantize and not fix:
        raise UsageError(
            "--requantize",
            expected="together with --fix",
            found="it alone",
            remedy="add --fix -o FILE",
        )


lint_command.__doc__ = f"{lint_command.__doc__}\n{_EXAMPLES}"
