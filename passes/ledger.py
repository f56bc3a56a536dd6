"""What a lowering did: one entry per match of every pass, in order, ready for JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import onnx_ir as ir

from passes.provenance import module_of

__all__ = ["Change", "Entry", "Ledger", "PassRecord", "Skip"]


@dataclass(frozen=True)
class Change:
    """Something a pass did to the graph."""

    node: str
    module: str
    what: str

    @classmethod
    def at(cls, node: ir.Node, what: str) -> Self:
        """A change of `node`, or of what it was before the pass removed it."""
        return cls(node.name or "", module_of(node), what)

    def as_json(self) -> dict[str, str]:
        """The entry as the manifest stores it."""
        return {"kind": "change", **asdict(self)}


@dataclass(frozen=True)
class Skip:
    """A match that a pass left alone, and the reason."""

    node: str
    module: str
    why: str

    @classmethod
    def at(cls, node: ir.Node, why: str) -> Self:
        """A refusal to change `node`."""
        return cls(node.name or "", module_of(node), why)

    def as_json(self) -> dict[str, str]:
        """The entry as the manifest stores it."""
        return {"kind": "skip", **asdict(self)}


Entry = Change | Skip


@dataclass(frozen=True)
class PassRecord:
    """Everything one pass accounted for."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """What the pass did."""
        return tuple(entry for entry in self.entries if isinstance(entry, Change))

    @property
    def skips(self) -> tuple[Skip, ...]:
        """What the pass left alone."""
        return tuple(entry for entry in self.entries if isinstance(entry, Skip))

    def as_json(self) -> dict[str, Any]:
        """The record as the manifest stores it."""
        return {
            "pass": self.name,
            "changes": len(self.changes),
            "skips": len(self.skips),
            "entries": [entry.as_json() for entry in self.entries],
        }


@dataclass(frozen=True)
class Ledger:
    """The records of all passes of one lowering, in the order they ran."""

    records: tuple[PassRecord, ...]

    @property
    def changes(self) -> int:
        """How many changes all passes made together."""
        return sum(len(record.changes) for record in self.records)

    @property
    def skips(self) -> int:
        """How many matches all passes left alone together."""
        return sum(len(record.skips) for record in self.records)

    def as_json(self) -> list[dict[str, Any]]:
        """The ledger as the manifest stores it: one object per pass, in order."""
        return [record.as_json() for record in self.records]
