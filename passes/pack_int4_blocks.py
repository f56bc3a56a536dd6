"""Stored int8 codes of 4-bit weights in; the same codes packed as INT4, a scale per block, out.

`int8 (K, N) -> DequantizeLinear(axis 1) -> MatMul` becomes
`int4 (K, N) -> DequantizeLinear(axis 0, block_size) -> MatMul`, two codes to a byte. The scale of
each channel is repeated for its blocks, and one per larger block for the smaller ones inside, so
that no value changes. Of INT4, TensorRT multiplies blocks alone by floats without expanding the
whole weight in every run; beside quantized data they do not build.

INT4 is a type of ONNX's opset 21, of which nothing else changes what it means but
GroupNormalization.
"""

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.block_invariants import expected_layers_are_int4_blocks
from passes.constants import drop_unread, store
from passes.contract import GraphPass, Rewritten
from passes.errors import RefusedGraph
from passes.layer_invariants import (
    linear_layers_are_canonical,
    weight_scales_lie_on_the_output_axis,
    weights_are_stored_integers,
)
from passes.ledger import Change, Entry, Skip
from passes.linear_layers import LinearLayer, linear_layers
from passes.numerics import IntegerRange
from passes.opsets import check_opset, declare_opset

__all__ = ["PackInt4Blocks"]

INT4 = IntegerRange(-8, 7)  # what four bits hold
OPSET = 21  # the first with INT4 and block_size
IR_VERSION = 10  # the first with INT4


class PackInt4Blocks(GraphPass):
    """Packs the weights of `modules`, which read floats, in blocks of `block_size` inputs."""

    assumes = (
        weights_are_stored_integers,
        linear_layers_are_canonical,
        weight_scales_lie_on_the_output_axis,
    )

    def __init__(self, modules: Collection[str], block_size: int) -> None:
        super().__init__()
        self.modules = frozenset(modules)
        self.block_size = block_size
        self.establishes = (
            weight_scales_lie_on_the_output_axis,
            expected_layers_are_int4_blocks(self.modules, block_size),
        )

    def requires(self, model: ir.Model) -> None:
        """Check what the pass assumes; raises `RefusedGraph` for a graph of another opset."""
        super().requires(model)
        check_opset(model, "INT4", OPSET)

    def call(self, model: ir.Model) -> Rewritten:
        """Rewrite every graph; a model with INT4 in it declares the versions that have it."""
        result = super().call(model)
        if result.modified:
            declare_opset(model, OPSET, IR_VERSION)
        return result

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One entry per linear layer; raises `RefusedGraph` at the first that cannot be packed."""
        packed: dict[ir.Value, ir.Value] = {}
        done: set[ir.Node] = set()
        for layer in linear_layers(graph):
            if layer.module not in self.modules:
                yield Skip.at(layer.node, "not expected to be INT4")
            elif layer.weight.is_int4 and layer.weight.block == self.block_size:
                if layer.weight.path[0] in done:
                    yield Change.at(layer.node, "reads a weight that was packed for another layer")
                else:
                    yield Skip.at(layer.node, f"already INT4 in blocks of {self.block_size}")
            else:
                self._check(layer)
                done.add(layer.weight.path[0])
                codes = self._pack(graph, layer, packed)
                yield Change.at(
                    layer.node, f"{codes.name} stored as INT4 in blocks of {self.block_size} inputs"
                )

    def _pack(
        self, graph: ir.Graph, layer: LinearLayer, packed: dict[ir.Value, ir.Value]
    ) -> ir.Value:
        """Let the layer's DequantizeLinear read INT4 codes and a scale per block."""
        weight, (node,) = layer.weight, layer.weight.path
        old = tuple(node.inputs)
        if weight.constant not in packed:
            codes = weight.stored.astype(ir.DataType.INT4.numpy())
            packed[weight.constant] = store(graph, codes, f"{weight.constant.name}_int4")
        node.resize_inputs(2)  # without a zero-point it is 0
        node.replace_input_with(0, packed[weight.constant])
        node.replace_input_with(1, store(graph, self._scales(layer), f"{_name(old[1])}_blocks"))
        node.attributes["axis"] = ir.AttrInt64("axis", weight.reduction_axis)
        node.attributes["block_size"] = ir.AttrInt64("block_size", self.block_size)
        for value in old:
            drop_unread(value)
        return packed[weight.constant]

    def _scales(self, layer: LinearLayer) -> npt.NDArray[np.floating]:
        """One for each block, in the orientation of the stored matrix; each is a copy."""
        weight, (inputs, outputs) = layer.weight, layer.weight.shape
        steps = weight.steps
        assert steps is not None, "`_check` saw constants"
        every = np.broadcast_to(steps, (inputs, outputs))[:: self.block_size]
        return every if weight.reduction_axis == 0 else every.T

    def _check(self, layer: LinearLayer) -> None:
        weight = layer.weight
        inputs = weight.shape[0]
        if weight.dequantize is None or not weight.is_integer or weight.scale is None:
            found = "floats" if weight.dequantize is None else "a scale that the graph computes"
            raise self._refusal(layer, "stored codes with constant scales", found, _RECIPE)
        if layer.input_quantizer is not None:
            raise self._refusal(layer, "a float input", "a quantized one", _PLACEMENT)
        if inputs % self.block_size:
            raise self._refusal(
                layer,
                f"a number of inputs that is a multiple of {self.block_size}",
                str(inputs),
                "choose smaller blocks, or give the layer another scheme under overrides in the "
                "recipe",
            )
        low, high = int(weight.stored.min()), int(weight.stored.max())
        if low < INT4.low or high > INT4.high:
            found = f"codes from {low} to {high}"
            raise self._refusal(layer, "codes from -8 to 7, which four bits hold", found, _RECIPE)
        point = weight.dequantize.zero_point
        if point is None or point.any():
            found = "one that the graph computes" if point is None else "another one"
            raise self._refusal(layer, "a zero-point of 0", found, "quantize symmetrically")
        if weight.block is not None and weight.block % self.block_size:
            raise self._refusal(
                layer,
                f"a scale per channel, or per block of a multiple of {self.block_size} inputs",
                f"one per block of {weight.block}",
                f"ask for blocks of {weight.block}",
            )

    def _refusal(self, layer: LinearLayer, expected: str, found: str, remedy: str) -> RefusedGraph:
        return RefusedGraph(
            f"INT4 blocks of {layer.module}", expected=expected, found=found, remedy=remedy
        )


_RECIPE = "give the layer an int4 scheme in the recipe"
_PLACEMENT = "write placement: weights in the recipe, or export without INT4 blocks"


def _name(value: ir.Value | None) -> str:
    return "scale" if value is None else str(value.name)
