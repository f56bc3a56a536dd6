"""`nxmi-export certify ARTEFACT`: what is proved of every matrix product of the encoder."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from nxmi_export.cli.console import RESULTS, stages
from nxmi_export.errors import GateFailed

__all__ = ["certify_command"]

_EXAMPLES = """
Examples

    nxmi-export certify model.artefact

    nxmi-export certify model.artefact --strict

    nxmi-export certify model.artefact \\
        --layer-info model.artefact/layers_model.json

    nxmi-export certify model.artefact --parity parity.json --strict

Exit codes: 0 nothing is refuted; 1 something is, or under --strict something is unproven; 2 the \
artefact cannot be used; 4 internal error. The certificate is written in either case.
"""

_Strict = Annotated[
    bool, typer.Option("--strict", help="Fail on what is unproven, not only on what is refuted.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print certificate.json and no table.")]
_Checkpoint = Annotated[
    str | None, typer.Option(help="The exported checkpoint, where it was moved.")
]
_LayerInfo = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What the engine inspector wrote, as evidence: layers_model.json of a build with a "
        "GPU or, which can only refute, that of trtexec --exportLayerInfo.",
    ),
]
_Parity = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What nxmi-export parity wrote with -o on a machine with the engine's GPU, as "
        "evidence that it ran.",
    ),
]


def certify_command(
    directory: Annotated[Path, typer.Argument(metavar="ARTEFACT", help="An exported directory.")],
    strict: _Strict = False,
    as_json: _Json = False,
    checkpoint: _Checkpoint = None,
    layer_info: _LayerInfo = None,
    parity: _Parity = None,
) -> None:
    """Write certificate.json: of every encoder GEMM, what is proved, refuted or unproven."""
    from nxmi_export.artefact import CERTIFICATE, read_artefact

    artefact = read_artefact(directory)
    with stages() as begin:
        begin("loading PyTorch")
        from nxmi_export.report.certificate_table import certificate_tables
        from nxmi_export.workflow.certify import CertifyRequest, certify_artefact

        request = CertifyRequest(artefact, checkpoint, layer_info, parity)
        certificate = certify_artefact(request, on_stage=begin)
    facts = certificate.as_json()
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    else:
        for table in certificate_tables(facts):
            RESULTS.print(table)
    refuted = sum(counts["refuted"] for counts in facts["totals"].values())
    unproven = sum(counts["unproven"] for counts in facts["totals"].values())
    if refuted or (strict and facts["answer"] != "proved"):
        raise GateFailed(
            directory / CERTIFICATE,
            expected="every claim proved" if strict else "no claim refuted",
            found=f"{refuted} refuted and {unproven} unproven",
            remedy="read its cells for the reasons",
        )


certify_command.__doc__ = f"{certify_command.__doc__}\n{_EXAMPLES}"
