"""Operators that TensorRT does not take."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from passes.lint.fixes.parameters import replace_constant
from samples.bad_graphs.bad_graph import BadGraph, Mutation
from samples.bad_graphs.places import (
    UP,
    add,
    attention_of,
    constant,
    dequantize_of,
    layer_of,
    pair_of,
)

__all__ = ["GRAPHS"]


def _dynamic_quantization(model: ir.Model) -> None:
    pooler = layer_of(model, "pooler.dense").node
    made = ir.node("DynamicQuantizeLinear", [pooler.inputs[0]], num_outputs=3, name="dynamic")
    model.graph.insert_before(pooler, made)
    for index, output in enumerate(made.outputs):
        output.name = f"dynamic_{index}"
    pooler.replace_input_with(0, add(model, pooler, "DequantizeLinear", list(made.outputs)))


def _in_function(arguments: int) -> Mutation:
    """The same inside a local function of one input, called with so many."""

    def mutate(model: ir.Model) -> None:
        pooler = layer_of(model, "pooler.dense").node
        given = ir.Value(name="given")
        codes = ir.node("DynamicQuantizeLinear", [given], num_outputs=3, name="inner_codes")
        floats = ir.node("DequantizeLinear", list(codes.outputs), name="inner_floats")
        for value in (*codes.outputs, *floats.outputs):
            value.name = f"inner_{value.producer().name}_{value.index()}"
        body = ir.Graph(
            [given],
            floats.outputs,
            nodes=[codes, floats],
            opset_imports=dict(model.opset_imports),
        )
        function = ir.Function("local", "Rounded", graph=body, attributes=())
        model.functions[function.identifier()] = function
        model.opset_imports["local"] = 1
        inputs = [pooler.inputs[0]] * arguments
        pooler.replace_input_with(0, add(model, pooler, "Rounded", inputs, domain="local"))

    return mutate


def _integer_product(model: ir.Model) -> None:
    """A product of codes in front of the pooler, as a dynamically quantized model has it."""
    pooler = layer_of(model, "pooler.dense")
    codes = _codes(model, pooler.node)
    product = add(model, pooler.node, "MatMulInteger", [codes, _square(model, np.int8)])
    pooler.node.replace_input_with(
        0, add(model, pooler.node, "Cast", [product], to=int(ir.DataType.FLOAT))
    )


def _quantized_product(model: ir.Model) -> None:
    """The same in onnxruntime's operator format."""
    pooler = layer_of(model, "pooler.dense")
    codes, (scale, zero) = _codes(model, pooler.node), _parameters(model)
    operands = [codes, scale, zero, _square(model, np.int8), scale, zero, scale, zero]
    product = add(model, pooler.node, "QLinearMatMul", operands)
    numbers = add(model, pooler.node, "DequantizeLinear", [product, scale, zero])
    pooler.node.replace_input_with(0, numbers)


def _codes(model: ir.Model, reader: ir.Node) -> ir.Value:
    return add(model, reader, "QuantizeLinear", [reader.inputs[0], *_parameters(model)])


def _parameters(model: ir.Model) -> tuple[ir.Value, ir.Value]:
    known = model.graph.initializers
    if "some_scale" in known:
        return known["some_scale"], known["some_zero"]
    return (
        constant(model, "some_scale", np.array(0.02, np.float32)),
        constant(model, "some_zero", np.array(0, np.int8)),
    )


def _square(model: ir.Model, kind: type[np.generic]) -> ir.Value:
    return constant(model, "square", np.eye(_width(model)).astype(kind))


def _vector(model: ir.Model, name: str) -> ir.Value:
    return constant(model, name, np.ones(_width(model), np.float32))


def _width(model: ir.Model) -> int:
    return int(layer_of(model, "pooler.dense").weight.shape[0])


# Other inputs of onnxruntime's operators than the value that each is put behind.
_FOREIGN: dict[str, Callable[[ir.Model], list[ir.Value]]] = {
    "BiasGelu": lambda model: [_vector(model, "bias")],
    "FastGelu": lambda model: [],
    "FusedMatMul": lambda model: [_square(model, np.float32)],
    "QGemm": lambda model: [
        *_parameters(model),
        _square(model, np.int8),
        *_parameters(model),
    ],
    "SkipLayerNormalization": lambda model: [
        constant(model, "skip", np.zeros((1, _width(model)), np.float32)),
        _vector(model, "gamma"),
        _vector(model, "beta"),
    ],
}


def _foreign(kind: str) -> Mutation:
    """One of onnxruntime's own operators in front of the pooler."""

    def mutate(model: ir.Model) -> None:
        pooler = layer_of(model, "pooler.dense").node
        model.opset_imports["com.microsoft"] = 1
        data = _codes(model, pooler) if kind == "QGemm" else pooler.inputs[0]
        inputs = [data, *_FOREIGN[kind](model)]
        pooler.replace_input_with(0, add(model, pooler, kind, inputs, domain="com.microsoft"))

    return mutate


def _attention_operator(model: ir.Model) -> None:
    attention = attention_of(model)
    model.opset_imports[""] = 23
    key_transpose = attention.scores.inputs[1].producer()
    mask = attention.softmax.inputs[0].producer().inputs[1]
    key_transpose.attributes["perm"] = ir.AttrInt64s("perm", (0, 2, 1, 3))
    key_transpose.outputs[0].shape = None
    inputs = [*attention.scores.inputs, attention.context.inputs[1], mask]
    output = add(model, attention.context, "Attention", inputs)
    output.type = ir.TensorType(ir.DataType.FLOAT)
    attention.context.outputs[0].replace_all_uses_with(output)
    softmax_pair = pair_of(model, "softmax_quantizer")
    scale_and_mask = [attention.softmax.inputs[0].producer(), attention.scores]
    scaled = scale_and_mask[0].inputs[0].producer()
    model.graph.remove(
        [attention.context, *reversed(softmax_pair), attention.softmax, scale_and_mask[0]],
        safe=True,
    )
    model.graph.remove([scaled, attention.scores], safe=True)


def _convolution(model: ir.Model) -> None:
    pooler = layer_of(model, "pooler.dense")
    width = pooler.weight.shape[0]
    axes = constant(model, "pixel_axes", np.array([2, 3]))
    kernel = constant(model, "kernel", np.eye(width, dtype=np.float32)[:, :, None, None])
    pixels = add(model, pooler.node, "Unsqueeze", [pooler.data, axes])
    convolved = add(model, pooler.node, "Conv", [pixels, kernel])
    pooler.node.replace_input_with(0, add(model, pooler.node, "Squeeze", [convolved, axes]))


def _einsum(model: ir.Model) -> None:
    product = layer_of(model, UP).node
    made = add(model, product, "Einsum", list(product.inputs), equation="bsk,kn->bsn")
    product.outputs[0].replace_all_uses_with(made)
    model.graph.remove(product, safe=True)


def _weight_first(model: ir.Model) -> None:
    """`(Wᵀ xᵀ)ᵀ`, with the weight stored as (N, K)."""
    layer = layer_of(model, UP)
    product, node = layer.node, dequantize_of(layer)
    replace_constant(node, 0, np.ascontiguousarray(layer.weight.stored.T))
    node.attributes["axis"] = ir.AttrInt64("axis", 0)
    turned = add(model, product, "Transpose", [product.inputs[0]], perm=[0, 2, 1])
    made = add(model, product, "MatMul", [product.inputs[1], turned])
    back = add(model, product, "Transpose", [made], perm=[0, 2, 1])
    product.outputs[0].replace_all_uses_with(back)
    model.graph.remove(product, safe=True)


GRAPHS = (
    BadGraph("integer-operator", _dynamic_quantization, "DynamicQuantizeLinear"),
    BadGraph("integer-operator", _in_function(1), "in a local function"),
    BadGraph("integer-operator", _integer_product, "MatMulInteger"),
    BadGraph("integer-operator", _quantized_product, "QLinearMatMul"),
    *(BadGraph("foreign-operator", _foreign(kind), kind) for kind in _FOREIGN),
    BadGraph("unread-function", _in_function(2)),
    BadGraph("attention-operator", _attention_operator),
    BadGraph("convolution-for-linear", _convolution),
    BadGraph("unread-product", _einsum, "Einsum"),
    BadGraph("unread-product", _weight_first, "weight first"),
)
