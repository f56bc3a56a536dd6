"""Nodes named by the exporter in; nodes named after their module and operator out.

Engines report layers, timings and tactics by node name, so a name such as
`bert.encoder.layer.0.attention.self.query/MatMul` is what makes their logs readable.
"""

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from passes.contract import GraphPass, invariant
from passes.errors import InvariantViolated
from passes.ledger import Change
from passes.provenance import describe, module_of

__all__ = ["NameNodes", "node_names_are_unique"]


@invariant
def node_names_are_unique(model: ir.Model) -> None:
    """A node name in an engine's log points at one node of its graph."""
    for graph in model.graphs():
        seen: dict[str | None, ir.Node] = {}
        for node in graph:
            first = seen.setdefault(node.name, node)
            if first is not node:
                raise InvariantViolated(
                    describe(node),
                    expected="a name of its own",
                    found=f"that of {describe(first)}",
                    remedy="run NameNodes on the graph",
                )


class NameNodes(GraphPass):
    """Renames every node to `module/OpType`, numbered from the second of a kind on."""

    establishes = (node_names_are_unique,)

    def rewrite(self, graph: ir.Graph) -> Iterator[Change]:
        """The name follows from module, operator and order alone, so a second run finds it set."""
        used: Counter[str] = Counter()
        for node in graph:
            stem = "/".join(filter(None, (module_of(node), node.op_type)))
            used[stem] += 1
            name = stem if used[stem] == 1 else f"{stem}_{used[stem]}"
            if node.name != name:
                change = Change.at(node, f"named {name}")
                node.name = name
                yield change
