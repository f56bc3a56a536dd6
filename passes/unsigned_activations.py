"""Activations quantized to int8 around 0 in; the same codes as uint8 around 128 out.

`saturate(round(x / s))` in −128…127 plus 128 is `saturate(round(x / s) + 128)` in 0…255, and
DequantizeLinear subtracts the 128 again, so every value stays bit-equal. x86 CPUs multiply uint8
by int8 in one instruction; onnxruntime leaves an int8 value with several readers in float32, a
uint8 one not. Weights stay int8.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.constants import drop_unread, readers, store
from passes.contract import GraphPass
from passes.layer_invariants import weights_are_stored_integers
from passes.ledger import Change
from passes.quantizer_invariants import (
    UNSIGNED_ZERO_POINT,
    activations_are_unsigned,
    every_quantize_has_its_dequantize,
    zero_points_are_centred,
    zero_points_are_zero,
)
from passes.quantizers import is_quantize, read_quantizer

__all__ = ["UnsignedActivations"]

NAME = "zero_point_uint8"


class UnsignedActivations(GraphPass):
    """Shifts the codes of every activation by 128; gives up zero-points of 0 for the CPU."""

    assumes = (
        weights_are_stored_integers,
        every_quantize_has_its_dequantize,
        zero_points_are_centred,
    )
    establishes = (
        every_quantize_has_its_dequantize,
        zero_points_are_centred,
        activations_are_unsigned,
    )
    retires = (zero_points_are_zero,)

    def rewrite(self, graph: ir.Graph) -> Iterator[Change]:
        """Every QuantizeLinear is an activation's, since weights are stored integers."""
        points: dict[tuple[int, ...], ir.Value] = {}
        for node in graph:
            if not is_quantize(node) or read_quantizer(node).codes != ir.DataType.INT8:
                continue
            scale = read_quantizer(node).scale
            shape = () if scale is None else scale.shape
            if shape not in points:
                point = np.full(shape, UNSIGNED_ZERO_POINT, dtype=np.uint8)
                points[shape] = store(graph, point, NAME)
            codes = node.outputs[0]
            for member in (node, *readers(codes)):
                _set_zero_point(member, points[shape])
            node.attributes.pop("output_dtype", None)  # the zero-point says it now
            codes.type = ir.TensorType(ir.DataType.UINT8)
            yield Change.at(node, "codes shifted from int8 around 0 to uint8 around 128")


def _set_zero_point(node: ir.Node, point: ir.Value) -> None:
    old = node.inputs[2] if len(node.inputs) > 2 else None
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, point)
    drop_unread(old)
