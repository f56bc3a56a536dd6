"""Several quantizers of one value in; one QuantizeLinear and one DequantizeLinear per scale out.

1. QuantizeLinear nodes that read the same value with equal scale, zero-point and axis become the
   first of them; equal, not identical: exporters merge and duplicate constants.
2. The same for DequantizeLinear nodes of the same codes.

TensorRT merges query, key and value into one product when their inputs are one quantized value.
"""

from collections.abc import Hashable, Iterator

import onnx_ir as ir

from passes.constants import drop_unread
from passes.contract import GraphPass
from passes.ledger import Change, Entry, Skip
from passes.quantizer_invariants import every_quantize_has_its_dequantize, quantizers_are_shared
from passes.quantizers import is_dequantize, is_quantize, read_quantizer

__all__ = ["ShareQuantizers"]


class ShareQuantizers(GraphPass):
    """Lets readers that want the same codes read the same node."""

    assumes = (every_quantize_has_its_dequantize,)
    establishes = (every_quantize_has_its_dequantize, quantizers_are_shared)

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One walk in order does both cases: a duplicate's readers follow the first node too."""
        seen: dict[Hashable, ir.Node] = {}
        for node in graph:
            if not (is_quantize(node) or is_dequantize(node)):
                continue
            first = seen.setdefault((node.op_type, node.inputs[0], read_quantizer(node).key), node)
            if first is node:
                continue
            if node.outputs[0].is_graph_output():
                yield Skip.at(node, f"its output is a graph output, so it cannot join {first.name}")
                continue
            yield Change.at(node, f"replaced by {first.name}: same value, scale and zero-point")
            _merge(graph, node, first)


def _merge(graph: ir.Graph, node: ir.Node, first: ir.Node) -> None:
    inputs = tuple(node.inputs)
    node.outputs[0].replace_all_uses_with(first.outputs[0])
    graph.remove(node, safe=True)
    for value in inputs[1:]:
        drop_unread(value)
