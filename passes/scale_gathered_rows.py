"""Tables of codes that are scaled before their look-up in; looked-up codes that are scaled out.

`codes → DequantizeLinear(a scale per row) → Gather` becomes
`codes → DequantizeLinear(1) → Gather → Mul`, whose other factor is gathered from the column of
scales by the same indices.

`(code · 1) · scale` is `code · scale` to the last bit. TensorRT-RTX fuses the second form into one
kernel that reads the INT8 rows it needs; in the first it multiplies the whole table in every run.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.constants import drop_unread_node, store
from passes.contract import GraphPass
from passes.embedding_tables import EmbeddingTable, embedding_tables
from passes.layer_invariants import weights_are_stored_integers
from passes.ledger import Change, Entry, Skip
from passes.quantizers import Quantizer
from passes.table_invariants import dequantize_of, only_gathered_rows_are_scaled

__all__ = ["ScaleGatheredRows"]


class ScaleGatheredRows(GraphPass):
    """Looks codes up first and multiplies by the scales of their rows then."""

    assumes = (weights_are_stored_integers,)
    establishes = (only_gathered_rows_are_scaled,)

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One look-up at a time; several in one table get their own nodes."""
        for table in tuple(embedding_tables(graph)):
            quantizer = dequantize_of(table)
            if quantizer is None:
                continue  # floats
            reason = _why_not(table, quantizer)
            if reason is not None:
                yield Skip.at(table.node, reason)
                continue
            assert quantizer.scale is not None, "`_why_not` saw a constant"
            _scale_behind(graph, table, quantizer)
            count = quantizer.scale.size
            yield Change.at(table.node, f"{count} scales put behind it, for the rows it looks up")
            drop_unread_node(quantizer.node)


def _why_not(table: EmbeddingTable, quantizer: Quantizer) -> str | None:
    if quantizer.axis is None:
        return "its scale is one for the whole table"
    if quantizer.axis != 0:
        return "its scale is one per column"
    if quantizer.scale is None:
        return "the graph computes its scales"
    if quantizer.zero_point is None or quantizer.zero_point.any():
        return "its codes lie around another zero-point than 0"
    if table.node.outputs[0].is_graph_output():
        return "its output is a graph output"
    return None


def _scale_behind(graph: ir.Graph, table: EmbeddingTable, quantizer: Quantizer) -> None:
    node, codes, scale = table.node, table.constant, quantizer.scale
    assert scale is not None, "`_why_not` saw a constant"
    home, stem = codes.graph, quantizer.node.inputs[1]
    assert isinstance(home, ir.Graph), "what is stored belongs to a graph"
    assert stem is not None, "a quantizer has a scale"
    kind = ir.TensorType(ir.DataType.from_numpy(scale.dtype))
    column = store(home, scale.reshape(-1, 1), f"{stem.name}_column")
    one = store(home, np.ones((), scale.dtype), f"{codes.name}_one")
    plain = _node("DequantizeLinear", [codes, one], quantizer.node, f"{node.name}_codes")
    factors = _node("Gather", [column, node.inputs[1]], node, f"{node.name}_scales")
    rows = node.outputs[0]
    product = _node("Mul", [rows, factors.outputs[0]], node, f"{node.name}_scaled")
    for made, shape in ((plain, codes.shape), (factors, None), (product, rows.shape)):
        made.outputs[0].type, made.outputs[0].shape = kind, shape
    rows.replace_all_uses_with(product.outputs[0])
    product.replace_input_with(0, rows)
    node.replace_input_with(0, plain.outputs[0])
    graph.insert_before(node, plain)
    graph.insert_after(node, [factors, product])


def _node(op_type: str, inputs: list[ir.Value | None], like: ir.Node, name: str) -> ir.Node:
    """A node without attributes that is called `name`, as is what it makes."""
    made = ir.Node("", op_type, inputs, name=name, metadata_props=dict(like.metadata_props))
    made.outputs[0].name = name
    return made
