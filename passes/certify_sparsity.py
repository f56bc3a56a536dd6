"""Layers trained N:M in; the same layers, proven on their stored numbers and stamped, out.

The stamp is the node metadata `nxmi.sparsity`. Nothing is certified by default: a weight that
breaks its pattern, and an expected module that is not there, stop the lowering.
"""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from passes.contract import GraphPass
from passes.errors import InvalidGroups
from passes.layer_invariants import (
    expected_layers_are_stamped,
    linear_layers_are_canonical,
    stamped_sparsity_holds,
    weights_are_stored_integers,
)
from passes.ledger import Change, Entry, Skip
from passes.linear_layers import linear_layers
from passes.sparsity import SPARSITY_KEY, Groups, check_groups, stamp_of

__all__ = ["CertifySparsity"]


class CertifySparsity(GraphPass):
    """Checks the modules of `expected`, name to (keep, group), and stamps their products."""

    assumes = (weights_are_stored_integers, linear_layers_are_canonical)

    def __init__(self, expected: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.expected = {module: Groups(*groups) for module, groups in expected.items()}
        for module, groups in self.expected.items():
            if not 0 < groups.keep < groups.group:
                raise InvalidGroups(
                    module,
                    expected="a pattern that keeps at least one and drops at least one of a group",
                    found=str(groups),
                    remedy="leave dense layers out of the expectation",
                )
        self.establishes = (expected_layers_are_stamped(self.expected), stamped_sparsity_holds)

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One entry per linear layer; raises `SparsityRefuted` at the first that breaks its word.

        A stamp found on a node is believed by nobody: `stamped_sparsity_holds` checks it again.
        """
        for layer in linear_layers(graph):
            groups = self.expected.get(layer.module)
            if groups is None:
                yield Skip.at(layer.node, "not expected to be sparse")
            elif stamp_of(layer.node) == groups:
                yield Skip.at(layer.node, f"already stamped {groups}")
            else:
                check_groups(layer, groups)
                layer.node.metadata_props[SPARSITY_KEY] = str(groups)
                yield Change.at(
                    layer.node, f"stored weight {layer.weight.constant.name} is {groups}"
                )
