"""Quantized linears as pairs, product and bias in; onnxruntime's own integer product out.

onnxruntime multiplies the codes of such a linear by itself, and adds the bias in a walk of its own
over the result. Its operator `MatMulIntegerToFloat` takes the bias along. TensorRT, the portable
file and every check keep the standard operators: `spell_out_products` is the way back.
"""

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from passes.constants import drop_unread_node
from passes.contract import GraphPass, Invariant, Rewritten
from passes.ledger import Change, Entry, Skip
from passes.linear_layers import LinearLayer, linear_layers
from passes.provenance import MODULE_KEY, module_of
from passes.quantizers import read_quantizer
from passes.spell_out_products import CONTRIB, PRODUCT, spell_out_products

__all__ = ["IntegerProducts"]

_VERSION = 1  # of the operators of com.microsoft
_OUTPUT_AXIS = 1  # of a (K, N) weight


class IntegerProducts(GraphPass):
    """Folds each linear of uint8 codes and stored int8 codes into one operator, with its bias.

    `keeps` are the promises that hold of the graph so far; they are kept of the graph as
    `spell_out_products` writes it, and checked there. Float sums are rounded otherwise.
    """

    preserves_values = False

    def __init__(self, keeps: Sequence[Invariant] = ()) -> None:
        super().__init__()
        self.retires = tuple(keeps)
        self.establishes = tuple(map(_once_spelled_out, keeps))

    def call(self, model: ir.Model) -> Rewritten:
        """Rewrite every graph; a model with such a product declares the operators' domain."""
        result = super().call(model)
        if result.modified:
            model.opset_imports[CONTRIB] = _VERSION
        return result

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One entry per linear layer."""
        for layer in list(linear_layers(graph)):
            reason = _reason_to_leave(layer)
            if reason is not None:
                yield Skip.at(layer.node, reason)
                continue
            with_bias = "" if layer.add is None else " with its bias"
            yield Change.at(layer.node, f"one product of integers{with_bias}")
            _fold(graph, layer)


def _once_spelled_out(promise: Invariant) -> Invariant:
    def check(model: ir.Model) -> None:
        promise.check(spell_out_products(model.clone()))

    return Invariant(f"{promise.name}_once_spelled_out", check)


def _reason_to_leave(layer: LinearLayer) -> str | None:
    weight, source = layer.weight, layer.input_quantizer
    if layer.node.op_type != "MatMul" or weight.reduction_axis != 0:
        return "not a MatMul of a (K, N) matrix"
    if weight.dequantize is None or weight.dequantize.codes != ir.DataType.INT8:
        return "its weight is not stored as int8"
    if len(weight.path) != 1 or len(weight.path[0].inputs) < 3:
        return "more than a DequantizeLinear with its zero-point lies behind its weight"
    if weight.scale_axis not in {None, _OUTPUT_AXIS}:
        return "its scales are not those of output channels"
    if weight.steps is None or weight.dequantize.zero_point is None:
        return "the graph computes a parameter of its weight"
    if any(len(each.uses()) > 1 for each in (weight.constant, weight.path[0].outputs[0])):
        return "another node reads its weight"
    if source is None:
        return "its input is not quantized"
    codes = read_quantizer(source)
    if codes.codes != ir.DataType.UINT8 or len(source.inputs) < 3:
        return "its input is not uint8"
    if codes.scale is None or codes.zero_point is None or codes.scale.ndim:
        return "its input has no constant scale for the whole tensor"
    return None


def _fold(graph: ir.Graph, layer: LinearLayer) -> None:
    pair, weight = layer.input_quantizer, layer.weight.path[0]
    assert pair is not None  # it was seen above
    last = layer.node if layer.add is None else layer.add
    old = last.outputs[0]
    bias = [] if layer.bias is None else [layer.bias]
    node = ir.node(
        PRODUCT,
        [
            pair.inputs[0],
            weight.inputs[0],
            pair.inputs[1],
            weight.inputs[1],
            pair.inputs[2],
            weight.inputs[2],
            *bias,
        ],
        domain=CONTRIB,
        num_outputs=1,
        name=layer.node.name,
        metadata_props={**layer.node.metadata_props, MODULE_KEY: module_of(layer.node)},
    )
    new, name = node.outputs[0], old.name
    new.type, new.shape = old.type, old.shape
    graph.insert_after(last, node)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    for each in dict.fromkeys((last, layer.node, weight, pair)):
        drop_unread_node(each)
    new.name = name
