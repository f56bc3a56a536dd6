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

# Placements short of `sparse` mean these: of a linear's output, and of residual additions. So do
# linears in float: what only they read stays float, and is added as it is.
_OUTPUT, _RESIDUAL = "missing-int8-output", "float-residual"
_DEFAULT = int(DEFAULT_COMPUTE_CAPABILITY.removeprefix("sm"))
# And `weights` these: of a linear's input.
_ALONE = {"float-input", "int8-blocks"}
# A recipe that leaves a linear in float means these of it, the second where others share its input.
_FLOAT = {"float-layer", "float-weight"}


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
    meant = _Meant.of(linears)
    graph = open_graph(path)
    found = (lint(graph, sm=sm, sequence=target.sequence) for sm in target.capabilities)
    findings = tuple(dict.fromkeys(finding for each in found for finding in each))
    counted = [each for each in findings if not meant.covers(each)]
    if counted:
        more = f", the first of {len(counted)}" if len(counted) > 1 else ""
        return answered(Verdict.REFUTED, f"{path.name} {target}: {counted[0]}{more}")
    notes = sum(each.severity is Severity.NOTE for each in findings)
    told = f"{path.name} {target}: {notes} notes"
    if floats := len(findings) - notes:
        told += f", and {floats} values in float that the recipe does not promise in INT8"
    if target.unknown is not None:
        return answered(Verdict.UNPROVEN, f"{target.unknown}; {told}")
    return answered(Verdict.PROVED, told)


@dataclass(frozen=True)
class _Meant:
    """What a recipe means, so that no finding about it counts."""

    promised: frozenset[str]  # linears whose output is to be INT8
    alone: frozenset[str]  # linears whose weight alone is quantized
    floats: frozenset[str]  # linears that are left in float
    blocks: tuple[str, ...]  # those with such a linear

    @classmethod
    def of(cls, linears: tuple[LinearPromise, ...]) -> Self:
        floats = [linear for linear in linears if not linear.is_quantized]
        return cls(
            frozenset(linear.module for linear in linears if linear.int8_output),
            frozenset(linear.module for linear in linears if linear.weight_alone),
            frozenset(linear.module for linear in floats),
            tuple(dict.fromkeys(f"{linear.block}." for linear in floats)),
        )

    def covers(self, finding: Finding) -> bool:
        if finding.severity is Severity.NOTE:
            return True
        if finding.rule in _ALONE:
            return finding.module.removesuffix(".weight_quantizer") in self.alone
        if finding.rule in _FLOAT:
            return finding.module in self.floats
        if finding.rule == _RESIDUAL:
            return not self.promised or finding.module.startswith(self.blocks)
        return finding.rule == _OUTPUT and finding.module not in self.promised
