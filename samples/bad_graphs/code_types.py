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


def _int8_blocks(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    layer.node.replace_input_with(0, layer.input_quantizer.inputs[0].producer().inputs[0])
    _blocks(model, np.int8)


GRAPHS = (
    BadGraph("code-type", _int16_weight, "INT16 weight"),
    *(BadGraph("code-type", _activation(kind), f"{name} activation") for name, kind in _UNKNOWN),
    BadGraph("fp8-capability", _activation(ml_dtypes.float8_e4m3fn)),
    BadGraph("stored-bias", _int32_bias),
    BadGraph("int4-per-channel", _int4_weight),
    BadGraph("blocks-times-int8", lambda model: _blocks(model, ml_dtypes.int4), "INT4"),
    BadGraph("blocks-times-int8", lambda model: _blocks(model, np.int8), "INT8"),
    BadGraph("int8-blocks", _int8_blocks),
    BadGraph("quantized-vector", _int8_bias),
)
