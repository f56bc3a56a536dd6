"""A graph in float32 in; the same graph with float16 where an engine stores floats out.

1. A table of embeddings is stored in float16, and cast behind the rows that are looked up.
2. A region between islands that an engine has to write down (see `float_regions`) becomes float16:
   float attention, residual additions, products that are not quantized. Casts stand at its edge.
3. Where a LayerNormalization feeds such a region, its quantizer reads the same rounded value, so
   that an engine stores one of them and not two.

Quantizers keep their float32 scales: QuantizeLinear of opset 20 wants a scale of its input's type,
and a rounded scale makes other codes. What reaches a graph output stays float32, since ties of
logits are predictions. So does a region whose values may leave float16 by all that the graph's own
numbers prove (`Magnitudes`); the ledger names the first of them.

An additive mask of −3.4e38 becomes −2¹⁵, half of what float16 holds: added to any score below
16 000 it neither overflows nor leaves a share that float32 can tell from zero.
"""

from collections.abc import Collection, Iterator

import onnx_ir as ir

from passes.constants import drop_unread
from passes.contract import GraphPass
from passes.float16_casts import Casts
from passes.float16_fit import hiding_masks, misfit
from passes.float16_invariants import (
    LARGEST,
    MASK,
    float16_masks_hide,
    float16_values_fit,
    islands_are_float32,
    quantizers_keep_the_numbers_of,
    values_are_typed,
)
from passes.float_regions import Region, float_regions, table_lookups
from passes.layer_invariants import weights_are_stored_integers
from passes.ledger import Change, Entry, Skip
from passes.magnitudes import Magnitudes
from passes.quantizer_invariants import zero_points_are_zero
from passes.quantizers import is_quantize

__all__ = ["Float16OutsideIslands"]


class Float16OutsideIslands(GraphPass):
    """Types what an engine stores as float16, where the graph's own numbers prove that it fits."""

    assumes = (values_are_typed, weights_are_stored_integers, zero_points_are_zero)
    preserves_values = False

    def requires(self, model: ir.Model) -> None:
        """Check what the pass assumes, and note the numbers that it must not touch."""
        super().requires(model)
        self.establishes = (
            values_are_typed,
            islands_are_float32,
            float16_values_fit,
            float16_masks_hide,
            quantizers_keep_the_numbers_of(model),
        )

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """Tables first, so that a region finds their rows in float16."""
        masks = tuple(hiding_masks(graph))
        magnitudes = Magnitudes(graph, instead=dict.fromkeys(masks, -MASK))
        regions = tuple(region for region in float_regions(graph) if region.is_stored)
        casts = Casts(graph)
        for node in tuple(table_lookups(graph)):
            yield _store_table(node, casts, magnitudes)
        for region in regions:
            refused = misfit(region, magnitudes)
            if refused is not None:
                yield refused
                continue
            for node in region.nodes:
                largest = max(map(magnitudes.largest, node.outputs))
                yield Change.at(node, f"in float16, where it stays below {largest:.3g}")
            _convert(region, casts)
        for mask in masks:
            _drop_unread_mask(graph, mask)


def _store_table(node: ir.Node, casts: Casts, magnitudes: Magnitudes) -> Entry:
    table = node.inputs[0]
    assert table is not None, "table_lookups yields what reads a constant"
    largest = magnitudes.largest(table)
    if not largest <= LARGEST:
        return Skip.at(node, f"the table {table.name} stays float32: it holds {largest:.3g}")
    node.replace_input_with(0, casts.half(table))
    _retype(node.outputs[0], casts, inside=())
    drop_unread(table)
    return Change.at(node, f"table {table.name} stored in float16")


def _convert(region: Region, casts: Casts) -> None:
    inside, inputs, outputs = set(region.nodes), region.inputs, tuple(region.outputs)
    for value in inputs:
        half, producer = casts.half(value), value.producer()
        normalized = producer is not None and producer.op_type == "LayerNormalization"
        for use in tuple(value.uses()):
            if use.node in inside:
                use.node.replace_input_with(use.idx, half)
            elif normalized and is_quantize(use.node):
                use.node.replace_input_with(use.idx, casts.whole(half))
        drop_unread(value)
    for value in outputs:
        _retype(value, casts, inside)


def _retype(value: ir.Value, casts: Casts, inside: Collection[ir.Node]) -> None:
    """Make a float32 value float16; whoever reads it outside reads a cast of it."""
    outside = [use for use in value.uses() if use.node not in inside]
    value.type = ir.TensorType(ir.DataType.FLOAT16)
    for use in outside:
        use.node.replace_input_with(use.idx, casts.whole(value))


def _drop_unread_mask(graph: ir.Graph, mask: ir.Value) -> None:
    node = mask.producer()
    if node is None or mask.uses() or mask.is_graph_output():
        return
    inputs = tuple(node.inputs)
    graph.remove(node, safe=True)
    for value in inputs[1:]:
        drop_unread(value)
