"""What a rule is and what it finds: a place in a graph, what TensorRT makes of it, what to do."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

import onnx_ir as ir

from passes.lint.reading import Reading
from passes.provenance import module_of

__all__ = ["Finding", "Place", "Rule", "Severity", "rule"]

Place = tuple[ir.Node, str]  # where, and what was found there


class Severity(StrEnum):
    """What becomes of the graph if nothing is done."""

    REFUSE = "refuse"  # TensorRT's parser or builder rejects it
    ALTER = "alter"  # it builds, and computes other values than the graph says
    DEGRADE = "degrade"  # it builds, but runs slower or less exactly than was meant
    NOTE = "note"  # it builds and runs as meant; there is a better way, or a limit to know


@dataclass(frozen=True)
class Finding:
    """One place in a graph that breaks one rule."""

    rule: str
    severity: Severity
    node: str
    module: str  # the PyTorch module; empty where the exporter recorded none
    found: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.module} ({self.node})" if self.module else self.node
        return f"{self.severity} {self.rule}: {where}: {self.found}; {self.remedy}"

    def as_json(self) -> dict[str, str]:
        """The finding as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """One fact about TensorRT and how to see in a graph that it will bite."""

    name: str
    severity: Severity
    why: str  # what TensorRT does
    remedy: str
    places: Callable[[Reading], Iterator[Place]]

    def findings(self, reading: Reading) -> Iterator[Finding]:
        """Every place that breaks the rule, in the order of the graph."""
        for node, found in self.places(reading):
            name = node.name or str(node.outputs[0].name)
            yield Finding(self.name, self.severity, name, module_of(node), found, self.remedy)


def rule(
    name: str, severity: Severity, *, remedy: str
) -> Callable[[Callable[[Reading], Iterator[Place]]], Rule]:
    """Make a `Rule` of a generator of places; its docstring says what TensorRT does."""

    def decorate(places: Callable[[Reading], Iterator[Place]]) -> Rule:
        why = " ".join((places.__doc__ or "").split())
        return Rule(name, severity, why, remedy, places)

    return decorate
