"""Quantized weights as floats and a QuantizeLinear in; the same weights as stored integers out.

1. `float constant -> QuantizeLinear` becomes an int8 initializer.
2. `float constant -> QuantizeLinear -> Clip` becomes one too: INT4 codes are int8 codes in ±7.

The DequantizeLinear stays as it is. Both operators are deterministic, so no value changes.
"""

from collections.abc import Hashable, Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import constant, constant_array, drop_unread, readers, store
from passes.contract import GraphPass
from passes.errors import RefusedGraph
from passes.layer_invariants import weights_are_stored_integers
from passes.ledger import Change
from passes.numerics import INT8, IntegerRange, quantize
from passes.provenance import describe
from passes.quantizer_invariants import (
    activation_scales_are_per_tensor,
    every_quantize_has_its_dequantize,
    scales_are_positive_and_finite,
    zero_points_are_zero,
)
from passes.quantizers import Quantizer, is_quantize, read_quantizer

__all__ = ["FoldWeightQuantization"]


class FoldWeightQuantization(GraphPass):
    """Stores quantized weights as integers, a quarter of their size.

    What it assumes of quantizers holds in a captured graph; it is repeated under `establishes` so
    that every later pass is held to it.
    """

    assumes = (
        zero_points_are_zero,
        scales_are_positive_and_finite,
        every_quantize_has_its_dequantize,
    )
    establishes = (
        *assumes,
        activation_scales_are_per_tensor,
        weights_are_stored_integers,
    )

    def rewrite(self, graph: ir.Graph) -> Iterator[Change]:
        """Fold one weight at a time, so that never more than one of them is there twice."""
        stored: dict[Hashable, ir.Value] = {}
        for node in graph:
            if is_quantize(node) and constant(node.inputs[0]) is not None:
                quantizer = read_quantizer(node)
                for clip in [each for each in readers(node.outputs[0]) if each.op_type == "Clip"]:
                    codes = _stored_codes(quantizer, _limits(clip), stored)
                    yield Change.at(clip, f"folded into the stored integers {codes.name}")
                    _replace(clip, codes)
                if node.outputs[0].uses():
                    codes = _stored_codes(quantizer, INT8, stored)
                yield Change.at(node, f"weight stored as the integers {codes.name}")
                _replace(node, codes)


def _stored_codes(
    quantizer: Quantizer, limits: IntegerRange, stored: dict[Hashable, ir.Value]
) -> ir.Value:
    """The integers of a weight, stored once for quantizers that agree (tied layers)."""
    weight = quantizer.node.inputs[0]
    assert weight is not None, "the caller saw a constant"
    assert weight.graph is not None, "the node that reads it is part of a graph"
    key = (weight, quantizer.key, limits)
    if key not in stored:
        codes = _codes(quantizer, weight, limits)
        stored[key] = store(weight.graph, codes, f"{weight.name}_int8")
    return stored[key]


def _codes(quantizer: Quantizer, source: ir.Value, limits: IntegerRange) -> npt.NDArray[np.int8]:
    weight = constant_array(source)
    assert weight is not None, "the caller saw a constant"
    assert quantizer.scale is not None, "scales_are_positive_and_finite was checked"
    if weight.dtype != np.float32:
        raise RefusedGraph(
            describe(quantizer.node),
            expected="a float32 weight, the precision that quantization is defined in",
            found=f"{weight.dtype} in {source.name}",
            remedy="export the model in float32",
        )
    codes = quantize(weight, quantizer.scale, limits, axis=quantizer.axis)
    return codes.astype(np.int8, copy=False)


def _limits(clip: ir.Node) -> IntegerRange:
    """The bounds of a Clip of int8 codes; an absent one bounds nothing."""
    bounds = [INT8.low, INT8.high]
    for index, value in enumerate(clip.inputs[1:3]):
        bound = constant_array(value)
        if bound is not None:
            bounds[index] = int(bound.item())
        elif value is not None:
            raise RefusedGraph(
                describe(clip),
                expected="constant bounds for the integers of a weight",
                found=f"the computed bound {value.name}",
                remedy="export the quantizer with fixed limits",
            )
    return IntegerRange(*bounds)


def _replace(node: ir.Node, codes: ir.Value) -> None:
    """Let every reader of `node` read `codes`; drop the node and the constants it alone read."""
    assert node.graph is not None, "the node was found in a graph"
    inputs = tuple(node.inputs)
    node.outputs[0].replace_all_uses_with(codes)
    node.graph.remove(node, safe=True)
    for value in inputs:
        drop_unread(value)
