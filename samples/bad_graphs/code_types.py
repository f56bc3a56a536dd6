"""Types of codes that TensorRT does not have, or not everywhere."""

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.lint.fixes.parameters import replace_constant
from samples.bad_graphs.bad_graph import BadGraph, Mutation
from samples.bad_graphs.places import DENSE, UP, add, constant, dequantize_of, layer_of, set_pair

__all__ = ["GRAPHS"]


def _int16_weight(model: ir.Model) -> None:
    model.opset_imports[""] = 21
    layer = layer_of(model, UP)
    replace_constant(dequantize_of(layer), 0, layer.weight.stored.astype(np.int16))
    replace_constant(dequantize_of(layer), 2, np.zeros(layer.weight.shape[1], np.int16))


# Names as ONNX writes them, and what numpy calls them.
_UNKNOWN = (
    ("INT16", np.int16),
    ("UINT16", np.uint16),
    ("UINT4", ml_dtypes.uint4),
    ("FP8-E5M2", ml_dtypes.float8_e5m2),
)


def _activation(kind: npt.DTypeLike) -> Mutation:
    """An activation quantized to another type."""

    def mutate(model: ir.Model) -> None:
        model.opset_imports[""] = 21
        set_pair(model, f"{DENSE}.output_quantizer", 2, np.array(0, kind))

    return mutate


def _int32_bias(model: ir.Model) -> None:
    _stored_bias(model, np.int32, 2**20)


def _int8_bias(model: ir.Model) -> None:
    _stored_bias(model, np.int8, 100)


def _stored_bias(model: ir.Model, kind: type[np.integer], limit: int) -> None:
    layer = layer_of(model, UP)
    codes = np.random.default_rng(0).integers(-limit, limit, layer.weight.shape[1]).astype(kind)
    stored = constant(model, "bias_codes", codes)
    scale = constant(model, "bias_scale", np.array(1 / limit, np.float32))
    layer.add.replace_input_with(1, add(model, layer.add, "DequantizeLinear", [stored, scale]))


def _int4_weight(model: ir.Model) -> None:
    model.opset_imports[""] = 21
    layer = layer_of(model, UP)
    codes = np.clip(layer.weight.stored, -7, 7).astype(ml_dtypes.int4)
    replace_constant(dequantize_of(layer), 0, codes)
    replace_constant(dequantize_of(layer), 2, np.zeros(layer.weight.shape[1], ml_dtypes.int4))


def _blocks(model: ir.Model, kind: npt.DTypeLike, size: int = 32) -> None:
    """A scale for every `size` codes along the reduction axis."""
    model.opset_imports[""] = 21
    layer = layer_of(model, UP)
    node, (inputs, outputs) = dequantize_of(layer), layer.weight.shape
    shape = (inputs // size, outputs)
    node.attributes["axis"] = ir.AttrInt64("axis", 0)
    node.attributes["block_size"] = ir.AttrInt64("block_size", size)
    replace_constant(node, 0, np.clip(layer.weight.stored, -7, 7).astype(kind))
    replace_constant(node, 1, np.full(shape, 0.01, np.float32))
    replace_constant(node, 2, np.zeros(shape, kind))


def _turned_blocks(model: ir.Model, kind: npt.DTypeLike) -> None:
    """Stored as (N, K), with a Transpose between DequantizeLinear and product."""
    product = layer_of(model, UP).node
    _blocks(model, kind)
    node = product.inputs[1].producer()
    node.attributes["axis"] = ir.AttrInt64("axis", 1)
    for index, value in enumerate(tuple(node.inputs)):
        replace_constant(node, index, np.ascontiguousarray(value.const_value.numpy().T))
    node.outputs[0].shape = node.inputs[0].shape
    turned = add(model, product, "Transpose", [node.outputs[0]], perm=[1, 0])
    product.replace_input_with(1, turned)


def _cast_blocks(model: ir.Model, kind: npt.DTypeLike) -> None:
    """Scales in FP16, with a Cast between DequantizeLinear and product."""
    product = layer_of(model, UP).node
    _blocks(model, kind)
    node = product.inputs[1].producer()
    replace_constant(node, 1, node.inputs[1].const_value.numpy().astype(np.float16))
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    product.replace_input_with(1, add(model, product, "Cast", [node.outputs[0]], to=1))


def _moved_data(model: ir.Model) -> None:
    product = layer_of(model, UP).node
    same = constant(model, "same_shape", np.array([0, 0, -1]))
    product.replace_input_with(0, add(model, product, "Reshape", [product.inputs[0], same]))
    _blocks(model, ml_dtypes.int4)


def _times_floats(mutate: Mutation) -> Mutation:
    """A mutation of the weight, whose data are not quantized."""

    def both(model: ir.Model) -> None:
        layer = layer_of(model, UP)
        layer.node.replace_input_with(0, layer.input_quantizer.inputs[0].producer().inputs[0])
        mutate(model)

    return both


GRAPHS = (
    BadGraph("code-type", _int16_weight, "INT16 weight"),
    *(BadGraph("code-type", _activation(kind), f"{name} activation") for name, kind in _UNKNOWN),
    BadGraph("fp8-capability", _activation(ml_dtypes.float8_e4m3fn)),
    BadGraph("stored-bias", _int32_bias),
    BadGraph("int4-per-channel", _int4_weight),
    BadGraph("blocks-times-int8", lambda model: _blocks(model, ml_dtypes.int4), "INT4"),
    BadGraph("blocks-times-int8", lambda model: _blocks(model, np.int8), "INT8"),
    BadGraph(
        "blocks-times-int8", lambda model: _turned_blocks(model, ml_dtypes.int4), "a Transpose"
    ),
    BadGraph("blocks-times-int8", _moved_data, "moved data"),
    BadGraph("int8-blocks", _times_floats(lambda model: _blocks(model, np.int8)), "direct"),
    BadGraph(
        "int8-blocks", _times_floats(lambda model: _turned_blocks(model, np.int8)), "a Transpose"
    ),
    BadGraph("int8-blocks", lambda model: _cast_blocks(model, np.int8), "a Cast"),
    BadGraph("cast-blocks", lambda model: _cast_blocks(model, ml_dtypes.int4), "INT8 data"),
    BadGraph(
        "cast-blocks",
        _times_floats(lambda model: _cast_blocks(model, ml_dtypes.int4)),
        "float data",
    ),
    BadGraph("quantized-vector", _int8_bias),
)
