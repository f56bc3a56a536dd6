"""The graph that engines are built from in, whether TensorRT's linter finds anything in it out."""

from pathlib import Path

from nxmi_export.backends.tensorrt_engine import Verdict
from nxmi_export.certificate.claims import Cell, answered
from nxmi_export.certificate.promises import LinearPromise
from nxmi_export.parity.graph_quantizers import open_graph
from passes.lint import Finding, Severity, lint

__all__ = ["lint_cell"]

# Placements short of `sparse` mean these: of a linear's output, and of residual additions.
_OUTPUT, _RESIDUAL = "missing-int8-output", "float-residual"
# And `weights` these: of a linear's input.
_ALONE = {"float-input", "int8-blocks"}


def lint_cell(path: Path, linears: tuple[LinearPromise, ...]) -> Cell:
    """Refuted by the first finding that refuses or degrades; raises ArtefactError if damaged."""
    promised = {linear.module for linear in linears if linear.int8_output}
    alone = {linear.module for linear in linears if linear.weight_alone}
    findings = lint(open_graph(path))
    counted = [each for each in findings if _counts(each, promised, alone)]
    if counted:
        more = f", the first of {len(counted)}" if len(counted) > 1 else ""
        return answered(Verdict.REFUTED, f"{path.name}: {counted[0]}{more}")
    notes = sum(each.severity is Severity.NOTE for each in findings)
    meant = len(findings) - notes
    told = f"{path.name}: {notes} notes"
    if meant:
        told += f", and {meant} values in float that the placement does not promise in INT8"
    return answered(Verdict.PROVED, told)


def _counts(finding: Finding, promised: set[str], alone: set[str]) -> bool:
    if finding.severity is Severity.NOTE:
        return False
    if finding.rule in _ALONE and finding.module.removesuffix(".weight_quantizer") in alone:
        return False
    if finding.rule == _RESIDUAL:
        return bool(promised)
    return finding.rule != _OUTPUT or finding.module in promised
