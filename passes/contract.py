"""What every graph pass promises: its invariants before and after, and an account of each decision.

class MyPass(GraphPass):
    assumes = (weights_are_stored_integers,)
    establishes = (linear_layers_are_canonical,)

    def rewrite(self, graph):
        for node in graph:
            ...
            yield Change.at(node, "what was done")
"""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from passes.ledger import Change, Entry

__all__ = ["GraphPass", "Invariant", "Rewritten", "invariant"]


@dataclass(frozen=True)
class Invariant:
    """A named statement about a model; `check` raises `InvariantViolated` where it is false."""

    name: str
    check: Callable[[ir.Model], None]


def invariant(check: Callable[[ir.Model], None]) -> Invariant:
    """Make an `Invariant` of a function, named as the function is."""
    return Invariant(check.__name__, check)


@dataclass
class Rewritten(ir.passes.PassResult):
    """A pass result with its account; `modified` is true exactly when a change was reported."""

    entries: tuple[Entry, ...]


class GraphPass(ir.passes.InPlacePass):
    """Rewrites one graph and accounts for every decision.

    The three tuples of invariants may be set on the class or, where they depend on what the pass
    was asked to do, on the instance.
    """

    assumes: tuple[Invariant, ...] = ()  # checked before
    establishes: tuple[Invariant, ...] = ()  # checked after, and kept by every later pass
    retires: tuple[Invariant, ...] = ()  # no later pass need keep these: the target wants otherwise
    preserves_values: ClassVar[bool] = True  # False only where rounding is the point

    @abc.abstractmethod
    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """Edit `graph` in place; yield one entry per match: what was changed, or why it was not.

        Called for the main graph first, then for each subgraph; it need not descend by itself.
        """

    @property
    def name(self) -> str:
        """The name of the pass in ledgers and messages."""
        return type(self).__name__

    def __call__(self, model_or_result: ir.Model | ir.passes.PassResult, /) -> Rewritten:
        """Check what is assumed, rewrite, check what is established; raises `PassError`."""
        result = super().__call__(model_or_result)
        assert isinstance(result, Rewritten), "`call` makes no other"
        return result

    def requires(self, model: ir.Model) -> None:
        """Check what the pass assumes; raises `InvariantViolated`."""
        for assumption in self.assumes:
            assumption.check(model)

    def call(self, model: ir.Model) -> Rewritten:
        """Rewrite every graph of the model and collect the entries."""
        graphs = tuple(model.graphs())  # first: a rewrite may replace nodes that hold subgraphs
        entries = tuple(entry for graph in graphs for entry in self.rewrite(graph))
        return Rewritten(model, any(isinstance(entry, Change) for entry in entries), entries)

    def ensures(self, model: ir.Model) -> None:
        """Check what the pass establishes; raises `InvariantViolated`."""
        for promise in self.establishes:
            promise.check(model)
