"""Linear layers as exported in; linear layers whose stored weight is read directly out.

1. `constant (N, K) -> Transpose -> MatMul` becomes `constant (K, N) -> MatMul`.
2. `integers (N, K) -> DequantizeLinear(axis 0) -> Transpose -> MatMul` becomes
   `integers (K, N) -> DequantizeLinear(axis 1) -> MatMul`: an engine that finds a Transpose behind
   the integers has to move it before it can use an integer kernel.
3. `Add(bias, product)` becomes `Add(product, bias)`.

MatMul stays MatMul and Gemm stays Gemm, whatever its transB: TensorRT and onnxruntime fuse MatMul
with Add, and the captured Gemm nodes (pooler, classifier) already read their weight directly.
"""

from collections.abc import Iterator

import onnx_ir as ir

from passes.constants import constant, constant_array, drop_unread, readers, store
from passes.contract import GraphPass, Invariant
from passes.layer_invariants import (
    linear_layers_are_canonical,
    weight_scales_lie_on_the_output_axis,
    weights_are_stored_integers,
)
from passes.ledger import Change, Entry
from passes.linear_layers import linear_layers
from passes.quantizers import is_dequantize, read_quantizer

__all__ = ["CanonicalLinear"]


class CanonicalLinear(GraphPass):
    """Stores every weight the way its product reads it, and puts biases second."""

    assumes: tuple[Invariant, ...] = (weights_are_stored_integers,)
    establishes: tuple[Invariant, ...] = (
        linear_layers_are_canonical,
        weight_scales_lie_on_the_output_axis,
    )

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """Transposes first: they decide what a linear layer reads."""
        for node in graph:
            if _transposes_a_weight(node):
                yield from _fold_transposes(graph, node)
        for layer in tuple(linear_layers(graph)):
            if layer.add is not None and layer.add.inputs[1] is layer.node.outputs[0]:
                layer.add.replace_input_with(0, layer.node.outputs[0])
                layer.add.replace_input_with(1, layer.bias)
                yield Change.at(layer.add, "bias made the second operand")


def _transposes_a_weight(node: ir.Node) -> bool:
    """Whether `node` swaps the axes of a constant or of its dequantization for a product."""
    if node.op_type != "Transpose" or node.domain or node.inputs[0] is None:
        return False
    if not any(
        usage.idx == 1 and usage.node.op_type in {"Gemm", "MatMul"}
        for usage in node.outputs[0].uses()
    ):
        return False
    tensor = constant(_stored(node.inputs[0]))
    swap = tuple(node.attributes.get_ints("perm", (1, 0))) == (1, 0)
    return tensor is not None and len(tensor.shape) == 2 and swap


def _stored(value: ir.Value) -> ir.Value | None:
    """`value`, or the codes that it dequantizes."""
    producer = value.producer()
    return producer.inputs[0] if producer is not None and is_dequantize(producer) else value


def _fold_transposes(graph: ir.Graph, first: ir.Node) -> Iterator[Change]:
    """Fold `first` and its twins: tied layers transpose one weight several times."""
    source = first.inputs[0]
    assert source is not None, "_transposes_a_weight looked at it"
    twins = [node for node in readers(source) if node.graph is graph and _transposes_a_weight(node)]
    producer = source.producer()
    if producer is not None and is_dequantize(producer):
        replacement = _dequantize_transposed(graph, producer, before=first)
    else:
        replacement = _store_transposed(graph, source)
    for node in twins:
        node.outputs[0].replace_all_uses_with(replacement)
        graph.remove(node, safe=True)
    _retire(source, replacement)
    weight = _stored(replacement)
    assert weight is not None, "it was stored just now"
    for node in twins:
        yield Change.at(node, f"{weight.name} stored as {weight.shape}, the way it is read")


def _store_transposed(graph: ir.Graph, source: ir.Value) -> ir.Value:
    """Case 1."""
    array = constant_array(source)
    assert array is not None, "_transposes_a_weight saw a constant"
    return store(source.graph or graph, array.T, f"{source.name}_transposed")


def _dequantize_transposed(graph: ir.Graph, old: ir.Node, *, before: ir.Node) -> ir.Value:
    """Case 2: a DequantizeLinear of the transposed integers, with the scale on the other axis."""
    codes, *parameters = old.inputs
    assert codes is not None, "_transposes_a_weight saw a constant"
    attributes = {name: attribute for name, attribute in old.attributes.items() if name != "axis"}
    quantizer = read_quantizer(old)
    if quantizer.axis is not None:
        attributes["axis"] = ir.AttrInt64("axis", 1 - quantizer.axis)
    if quantizer.block is not None:  # a matrix each, as the codes are
        parameters = [
            None if each is None else _store_transposed(graph, each) for each in parameters
        ]
    node = ir.Node(
        "",
        "DequantizeLinear",
        [_store_transposed(graph, codes), *parameters],
        attributes,
        name=f"{old.name}_transposed",
        metadata_props=dict(old.metadata_props),
    )
    result = before.outputs[0]
    node.outputs[0].name = f"{old.outputs[0].name}_transposed"
    node.outputs[0].shape, node.outputs[0].type = result.shape, result.type
    graph.insert_before(before, node)
    return node.outputs[0]


def _retire(old: ir.Value, new: ir.Value) -> None:
    """Drop what nothing reads any more, and let its successor have its name."""
    if old.uses() or old.is_graph_output():
        return
    producer, successor = old.producer(), new.producer()
    if producer is None or successor is None:
        drop_unread(old)
        new.name = old.name
        return
    pairs = tuple(zip(producer.inputs, successor.inputs, strict=True))
    assert producer.graph is not None, "the old DequantizeLinear is still part of its graph"
    producer.graph.remove(producer, safe=True)
    successor.name, new.name = producer.name, old.name
    for stored, replacement in pairs:
        if stored is not None and replacement is not None and stored is not replacement:
            _retire(stored, replacement)
