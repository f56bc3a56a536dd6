"""Tables of codes that become floats before their look-up in; codes that are looked up first out.

`codes → DequantizeLinear(1) → Gather` becomes `codes → Gather → Cast`: a code times 1 is the code
itself, so no value changes. onnxruntime would turn the whole table into floats in every run: 16 to
24 ms instead of 1 for 8 × 128 words out of 30 522 with 384 numbers each, and four times its memory.
TensorRT refuses a Gather of codes, so this is for the CPU alone.
"""

from collections.abc import Iterator

import onnx_ir as ir

from passes.constants import drop_unread_node
from passes.contract import GraphPass
from passes.embedding_tables import embedding_tables
from passes.layer_invariants import weights_are_stored_integers
from passes.ledger import Change, Entry, Skip
from passes.quantizer_invariants import zero_points_are_centred
from passes.table_invariants import codes_are_gathered, dequantize_of, only_gathered_rows_are_scaled

__all__ = ["GatherCodes"]


class GatherCodes(GraphPass):
    """Looks rows up as the codes they are stored as."""

    assumes = (
        weights_are_stored_integers,
        zero_points_are_centred,
        only_gathered_rows_are_scaled,
    )
    establishes = (codes_are_gathered,)

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One look-up at a time."""
        for table in tuple(embedding_tables(graph)):
            quantizer = dequantize_of(table)
            if quantizer is None:
                continue  # floats, or codes already
            node, rows = table.node, table.node.outputs[0]
            if quantizer.scale is None or quantizer.scale != 1:
                yield Skip.at(node, f"its codes are multiplied by {quantizer.scale}, not by 1")
                continue
            if rows.is_graph_output():
                yield Skip.at(node, "its output is a graph output")
                continue
            _cast_behind(graph, node, table.constant)
            yield Change.at(node, f"looks up codes in {table.constant.name}")
            drop_unread_node(quantizer.node)


def _cast_behind(graph: ir.Graph, node: ir.Node, codes: ir.Value) -> None:
    rows = node.outputs[0]
    kind = ir.DataType.FLOAT if rows.dtype is None else rows.dtype
    cast = ir.Node(
        "",
        "Cast",
        [rows],
        [ir.AttrInt64("to", kind)],
        name=f"{node.name}_floats",
        metadata_props=dict(node.metadata_props),
    )
    floats = cast.outputs[0]
    floats.name, floats.shape, floats.type = f"{rows.name}_floats", rows.shape, rows.type
    rows.replace_all_uses_with(floats)
    cast.replace_input_with(0, rows)
    node.replace_input_with(0, codes)
    assert codes.dtype is not None, "a stored tensor has a type"
    rows.type = ir.TensorType(codes.dtype)
    graph.insert_after(node, cast)
