"""Zero-points other than 0."""

import numpy as np
import onnx_ir as ir

from passes.lint.fixes.parameters import replace_constant
from samples.bad_graphs.bad_graph import BadGraph
from samples.bad_graphs.places import DENSE, SOFTMAX, UP, dequantize_of, layer_of, pair_of, set_pair

__all__ = ["GRAPHS"]


def _uint8_weight(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    codes = (layer.weight.stored.astype(np.int64) + 128).astype(np.uint8)
    replace_constant(dequantize_of(layer), 0, codes)
    replace_constant(dequantize_of(layer), 2, np.full(layer.weight.shape[1], 128, np.uint8))


def _shifted_weight(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    replace_constant(dequantize_of(layer), 2, np.ones(layer.weight.shape[1], np.int8))


def _absent(model: ir.Model) -> None:
    """No zero-point, and none of ONNX's ways to say int8: the operator's default is uint8."""
    quantize, dequantize = pair_of(model, SOFTMAX)
    for node in (quantize, dequantize):
        node.resize_inputs(2)
    quantize.outputs[0].type = ir.TensorType(ir.DataType.UINT8)


def _output_zero(model: ir.Model, zero: np.generic) -> None:
    set_pair(model, f"{DENSE}.output_quantizer", 2, np.array(zero))


_CLIPPED = "the parser warns, and the same kernels clip what lies above 127"

GRAPHS = (
    BadGraph("activation-zero-point", lambda model: _output_zero(model, np.int8(3))),
    BadGraph("uint8-around-128", lambda model: _output_zero(model, np.uint8(128))),
    BadGraph(
        "uint8-activation",
        lambda model: set_pair(model, SOFTMAX, 2, np.array(0, np.uint8)),
        "zero-point 0",
        unseen=_CLIPPED,
    ),
    BadGraph("uint8-activation", _absent, "no zero-point", unseen=_CLIPPED),
    BadGraph("weight-zero-point", _shifted_weight),
    BadGraph("uint8-weight", _uint8_weight),
)
