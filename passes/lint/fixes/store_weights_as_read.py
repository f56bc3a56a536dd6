"""Stored weights that a Transpose turns for their product in; weights stored as they are read out.

What `CanonicalLinear` does, in graphs of any origin: a layer that it cannot make canonical, such as
a Gemm with a factor, is left as it is with the reason, and the others are mended.
"""

from collections.abc import Iterator

import onnx_ir as ir

from passes.canonical_linear import CanonicalLinear
from passes.layer_invariants import other_than_canonical
from passes.ledger import Entry, Skip

__all__ = ["StoreWeightsAsRead"]


class StoreWeightsAsRead(CanonicalLinear):
    """Stores the weights that it can the way their products read them."""

    assumes = ()
    establishes = ()

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """All that `CanonicalLinear` changes, then what is left."""
        yield from super().rewrite(graph)
        for node, found in other_than_canonical(graph):
            yield Skip.at(node, found)
