"""Linear layers that stay float, or apart."""

import numpy as np
import onnx_ir as ir

from samples.bad_graphs.bad_graph import BadGraph, Mutation
from samples.bad_graphs.places import (
    DENSE,
    QUERY,
    UP,
    add,
    add_pair,
    constant,
    dequantize_of,
    drop_pair,
    floats_of,
    layer_of,
    leave,
    node_of,
)

__all__ = ["GRAPHS"]


def _float_weight(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    layer.node.replace_input_with(1, constant(model, "float_weight", floats_of(layer)))
    model.graph.remove(dequantize_of(layer), safe=True)


def _float_input(model: ir.Model) -> None:
    drop_pair(model, f"{DENSE}.input_quantizer")


def _float_layer(model: ir.Model) -> None:
    _float_weight(model)
    layer = layer_of(model, UP)
    layer.node.replace_input_with(0, layer.input_quantizer.inputs[0].producer().inputs[0])


def _flattened(kind: str) -> Mutation:
    """A float layer over the tokens of all sequences, one row each."""

    def mutate(model: ir.Model) -> None:
        _float_layer(model)
        node = layer_of(model, UP).node
        data, weight = node.inputs
        every = constant(model, "every_token", np.array([-1, data.shape[-1]]))
        rows = add(model, node, "Reshape", [data, every])
        product = add(model, node, kind, [rows, weight])
        sides = add(model, node, "Shape", [data])  # the layer is square
        node.outputs[0].replace_all_uses_with(add(model, node, "Reshape", [product, sides]))
        model.graph.remove(node, safe=True)

    return mutate


def _narrow_layer(model: ir.Model) -> None:
    layer = layer_of(model, "classifier")
    add_pair(model, layer.data, layer.node, 0.01)
    stored = layer.weight.stored
    codes = constant(model, "head_codes", np.rint(stored / 0.01).clip(-127, 127).astype(np.int8))
    scale = constant(model, "head_scale", np.full(len(stored), 0.01, np.float32))
    weight = add(model, layer.node, "DequantizeLinear", [codes, scale], axis=0)
    layer.node.replace_input_with(1, weight)


def _own_quantizer(model: ir.Model, factor: float) -> None:
    layer = layer_of(model, QUERY)
    quantize = layer.input_quantizer.inputs[0].producer()
    scale = float(quantize.inputs[1].const_value.numpy())
    layer.node.replace_input_with(0, quantize.inputs[0])
    add_pair(model, quantize.inputs[0], layer.node, np.float32(scale * factor))


def _quantized_gelu_input(model: ir.Model) -> None:
    gelu = node_of(model, "Gelu")
    add_pair(model, gelu.inputs[0], gelu, 0.02)


def _quantized_product(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    add_pair(model, layer.node.outputs[0], layer.add, 0.05)


def _quantized_norm_input(model: ir.Model) -> None:
    last = [node for node in model.graph if node.op_type == "LayerNormalization"][-1]
    add_pair(model, last.inputs[0], last, 0.05)


GRAPHS = (
    BadGraph("turing-float", leave, options={"sm": 75}),
    BadGraph("float-layer", _float_layer),
    *(
        BadGraph("float-layer", _flattened(kind), f"flattened {kind}")
        for kind in ("MatMul", "Gemm")
    ),
    BadGraph("float-input", _float_input),
    BadGraph("float-weight", _float_weight),
    BadGraph("narrow-layer", _narrow_layer),
    BadGraph("untied-inputs", lambda model: _own_quantizer(model, 1.01)),
    BadGraph("duplicate-quantizers", lambda model: _own_quantizer(model, 1.0)),
    BadGraph("quantized-product", _quantized_product),
    BadGraph("quantized-norm-input", _quantized_norm_input),
    BadGraph("quantized-gelu-input", _quantized_gelu_input),
)
