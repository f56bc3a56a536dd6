"""Scales that cannot be used."""

import numpy as np
import onnx_ir as ir

from passes.lint.fixes.parameters import replace_constant
from samples.bad_graphs.bad_graph import BadGraph, Mutation
from samples.bad_graphs.places import (
    DENSE,
    DOWN,
    UP,
    add,
    constant,
    dequantize_of,
    layer_of,
    pair_of,
    set_pair,
)

__all__ = ["GRAPHS"]


def _one_channel(model: ir.Model, number: float) -> None:
    layer = layer_of(model, UP)
    scale = np.array(layer.weight.scale)
    scale[3] = number
    replace_constant(dequantize_of(layer), 1, scale)


def _computed_scale(model: ir.Model) -> None:
    quantize, dequantize = pair_of(model, f"{DENSE}.output_quantizer")
    largest = add(model, quantize, "Abs", [layer_of(model, DENSE).data])
    largest = add(model, quantize, "ReduceMax", [largest], keepdims=0)
    codes = constant(model, "codes", np.array(127, np.float32))
    scale = add(model, quantize, "Div", [largest, codes])
    quantize.replace_input_with(1, scale)
    dequantize.replace_input_with(1, scale)


def _scale_along_inputs(model: ir.Model) -> None:
    node = dequantize_of(layer_of(model, UP))
    node.attributes["axis"] = ir.AttrInt64("axis", 0)


def _scale_per_channel(model: ir.Model) -> None:
    module = f"{DOWN}.input_quantizer"
    quantize, dequantize = pair_of(model, module)
    width = layer_of(model, UP).weight.shape[1]
    scale = float(quantize.inputs[1].const_value.numpy())
    set_pair(model, module, 1, np.linspace(scale, 2 * scale, width, dtype=np.float32))
    set_pair(model, module, 2, np.zeros(width, np.int8))
    for node in (quantize, dequantize):
        node.attributes["axis"] = ir.AttrInt64("axis", 2)


def _half_scale(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    data, node = layer.input_quantizer, layer.node
    scale = data.inputs[1].const_value.numpy().astype(np.float16)
    half = constant(model, "half_scale", scale)
    codes = [data.inputs[0], half, data.inputs[2]]
    node.replace_input_with(0, add(model, node, "DequantizeLinear", codes))
    weight = dequantize_of(layer)
    replace_constant(weight, 1, layer.weight.scale.astype(np.float16))
    product = node.outputs[0]
    for value in (weight.outputs[0], product):
        value.type = ir.TensorType(ir.DataType.FLOAT16)
    layer.add.replace_input_with(
        0, add(model, layer.add, "Cast", [product], to=int(ir.DataType.FLOAT))
    )


def _activation(scale: float) -> Mutation:
    return lambda model: set_pair(
        model, f"{DENSE}.output_quantizer", 1, np.array(scale, np.float32)
    )


GRAPHS = (
    BadGraph("activation-scale", _activation(0), "zero"),
    BadGraph("activation-scale", _activation(-0.01), "negative"),
    BadGraph("weight-scale", lambda model: _one_channel(model, 0), "a pruned channel"),
    BadGraph("weight-scale", lambda model: _one_channel(model, -0.01), "negative"),
    BadGraph("computed-scale", _computed_scale),
    BadGraph("weight-scale-axis", _scale_along_inputs),
    BadGraph("per-channel-activation", _scale_per_channel),
    BadGraph("half-scale", _half_scale, unseen="whether the FP16 sum overflows is up to the data"),
)
