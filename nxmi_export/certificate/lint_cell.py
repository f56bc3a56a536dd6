"""The graph that engines are built from in, whether TensorRT's linter finds anything in it out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nxmi_export.backends.tensorrt_engine import Verdict
from nxmi_export.backends.tensorrt_engine.configure import DEFAULT_COMPUTE_CAPABILITY
from nxmi_export.backends.tensorrt_engine.engine_facts import EngineFacts
from nxmi_export.certificate.claims import Cell, answered
from nxmi_export.certificate.promises import LinearPromise
from nxmi_export.parity.graph_quantizers import open_graph
from passes.lint import Finding, Severity, lint

__all__ = ["LintTarget", "lint_cell"]

# Placements short of `sparse` mean these: of a linear's output, and of residual additions.
_OUTPUT, _RESIDUAL = "missing-int8-output", "float-residual"
_DEFAULT = int(DEFAULT_COMPUTE_CAPABILITY.removeprefix("sm"))
# And `weights` these: of a linear's input.
_ALONE = {"float-input", "int8-blocks"}


@dataclass(frozen=True)
class LintTarget:
    """What the graph is held against: GPU generations, and the longest input."""

    capabilities: tuple[int, ...]  # 86 for SM 8.6
    sequence: int | None  # tokens; None where no engine sets an end
    unknown: str | None = None  # why the engine's own GPU is not among them

    @classmethod
    def of(cls, facts: EngineFacts | None) -> Self:
        """Those of the engine; the default where there is none."""
        if facts is None:
            return cls((_DEFAULT,), None)
        return cls(facts.lint.capabilities, facts.longest, facts.lint.assumed)

    def __str__(self) -> str:
        names = ", ".join(f"sm{each}" for each in self.capabilities)
        if self.sequence is None:
            return f"for {names}, as no engine says what for"
        return f"for {names} and {self.sequence} tokens"


def lint_cell(path: Path, linears: tuple[LinearPromise, ...], target: LintTarget) -> Cell:
    """Refuted by the first finding that refuses or degrades; raises ArtefactError if damaged.

    Unproven for an engine whose GPU is not known.
    """
    promised = {linear.module for linear in linears if linear.int8_output}
    alone = {linear.module for linear in linears if linear.weight_alone}
    graph = open_graph(path)
    found = (lint(graph, sm=sm, sequence=target.sequence) for sm in target.capabilities)
    findings = tuple(dict.fromkeys(finding for each in found for finding in each))
    counted = [each for each in findings if _counts(each, promised, alone)]
    if counted:
        more = f", the first of {len(counted)}" if len(counted) > 1 else ""
        return answered(Verdict.REFUTED, f"{path.name} {target}: {counted[0]}{more}")
    notes = sum(each.severity is Severity.NOTE for each in findings)
    meant = len(findings) - notes
    told = f"{path.name} {target}: {notes} notes"
    if meant:
        told += f", and {meant} values in float that the placement does not promise in INT8"
    if target.unknown is not None:
        return answered(Verdict.UNPROVEN, f"{target.unknown}; {told}")
    return answered(Verdict.PROVED, told)


def _counts(finding: Finding, promised: set[str], alone: set[str]) -> bool:
    if finding.severity is Severity.NOTE:
        return False
    if finding.rule in _ALONE and finding.module.removesuffix(".weight_quantizer") in alone:
        return False
    if finding.rule == _RESIDUAL:
        return bool(promised)
    return finding.rule != _OUTPUT or finding.module in promised
