"""A graph in, the largest magnitude that each of its float values can have out.

Sound bounds from what is stored: a dequantized code is at most 128 steps; what LayerNormalization
normalizes is √n long over n channels; a linear layer is held by its stored columns, a product of
activations by Cauchy and Schwarz. What no rule covers is infinite: nothing is claimed of an
operator that is not understood. Roundings are not counted; whoever compares a bound with a limit
leaves room for them.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import constant_array
from passes.linear_bounds import LinearBounds
from passes.linear_layers import LinearLayer, linear_layers
from passes.quantizers import is_dequantize, is_quantize, read_quantizer

__all__ = ["FLOATS", "Magnitudes"]

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
_LARGEST_CODE = {ir.DataType.INT8: 128, ir.DataType.INT4: 8}  # in magnitude
_POSITIONS = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL})  # and masks
# What these give is among the numbers that they read, but for its sign.
_SELECT = frozenset(
    {"Abs", "Concat", "Expand", "Flatten", "Gather", "Identity", "Max", "Min", "Neg", "Reshape"}
    | {"Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where"}
)
_SHRINK = frozenset({"Cast", "Gelu", "Relu"})  # no larger than what they read
_AT_MOST_ONE = frozenset({"Cos", "Erf", "Sigmoid", "Sin", "Softmax", "Tanh"})


class Magnitudes:
    """Upper bounds for the float values of one graph; `instead` sets some of them by hand."""

    def __init__(self, graph: ir.Graph, instead: Mapping[ir.Value, float] | None = None) -> None:
        layers = tuple(linear_layers(graph))
        self._linears = {layer.node: layer for layer in layers}
        self._biased = {layer.add: layer for layer in layers if layer.add is not None}
        self._largest = dict(instead or {})
        self._norms: dict[tuple[ir.Value, int], float] = {}
        for node in graph:  # in order, so that no chain of layers is too deep to follow
            for value in node.outputs:
                if value.dtype in FLOATS and value not in self._largest:
                    self._largest[value] = _or_infinity(self._largest_of(node))

    def largest(self, value: ir.Value | None) -> float:
        """No element of `value` is larger in magnitude; infinity where nothing is known."""
        if value in self._largest:
            return self._largest[value]
        numbers = constant_array(value)
        if numbers is None or not numbers.size:
            return math.inf
        return _or_infinity(float(np.abs(numbers.astype(np.float64)).max()))

    def norm(self, value: ir.Value | None, axis: int) -> float:
        """No slice of `value` along `axis`, from the end (-1 the last), has a greater length."""
        if value is None:
            return math.inf
        if (value, axis) not in self._norms:
            by_element = math.sqrt(_length(value, axis)) * self.largest(value)
            bounds = (by_element, self._norm_of(value, axis))
            self._norms[value, axis] = min(map(_or_infinity, bounds))
        return self._norms[value, axis]

    def _largest_of(self, node: ir.Node) -> float:
        if node.domain:
            return math.inf
        if is_dequantize(node):
            return _largest_dequantized(node)
        if node.op_type == "LayerNormalization":
            length, gain, bias = _normalized(node)
            return float((length * np.abs(gain) + np.abs(bias)).max())
        if node in self._linears:
            return self._largest_output(self._linears[node])
        if node.op_type == "MatMul":
            return self._largest_product(*node.inputs[:2])
        return self._largest_elementwise(node)

    def _largest_output(self, layer: LinearLayer) -> float:
        bounds = LinearBounds.of(layer)
        if bounds is None:
            return math.inf
        return bounds.largest(self.largest(layer.data), self.norm(layer.data, -1))

    def _largest_product(self, left: ir.Value | None, right: ir.Value | None) -> float:
        """Of two activations."""
        bounds = [self.norm(left, -1) * self.norm(right, -2)]
        if _is_softmax(left):  # its rows add up to one
            bounds.append(self.largest(right))
        return min(map(_or_infinity, bounds))

    def _largest_elementwise(self, node: ir.Node) -> float:
        if node.op_type in _AT_MOST_ONE:
            return 1.0
        # Shapes and indices need no bound, nor does Where's condition. What has no known type may
        # be a float, and is unbounded then.
        read = node.inputs[1:] if node.op_type == "Where" else node.inputs
        numbers = [v for v in read if v is not None and _dtype(v) not in _POSITIONS]
        bounds = [self.largest(value) for value in numbers]
        if not bounds:
            return math.inf
        if node.op_type in _SELECT:
            return max(bounds)
        if node.op_type in _SHRINK:
            return bounds[0]
        if node.op_type in {"Add", "Sub"}:
            return sum(bounds)
        if node.op_type == "Mul":
            return math.prod(bounds)
        if node.op_type == "Div":
            divisor = constant_array(node.inputs[1])
            if divisor is not None and divisor.all():
                return bounds[0] / float(np.abs(divisor.astype(np.float64)).min())
        return math.inf

    def _norm_of(self, value: ir.Value, axis: int) -> float:
        """By what made `value`; infinity where that says no more than its elements do."""
        node = value.producer()
        if node is None or node.domain or not node.inputs or node.inputs[0] is None:
            return math.inf
        source = node.inputs[0]
        if node.op_type == "Cast":
            return self.norm(source, axis)
        if node.op_type == "Transpose" and value.shape is not None:
            rank = len(value.shape)
            perm = node.attributes.get_ints("perm", tuple(reversed(range(rank))))
            return self.norm(source, perm[axis] - rank)
        if node.op_type == "Mul":
            return self._norm_of_scaled(node, axis)
        if is_dequantize(node):
            return self._norm_of_rounded(node, axis)
        return self._norm_of_row(node, value) if axis == -1 else math.inf

    def _norm_of_scaled(self, node: ir.Node, axis: int) -> float:
        for value, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
            factor = constant_array(other)
            if factor is not None and factor.size == 1:
                return self.norm(value, axis) * abs(float(factor.item()))
        return math.inf

    def _norm_of_rounded(self, node: ir.Node, axis: int) -> float:
        """Rounding to codes moves every element by half a step at most, and clips towards 0."""
        source, scale = node.inputs[0], read_quantizer(node).scale
        quantize = None if source is None else source.producer()
        if quantize is None or not is_quantize(quantize) or scale is None:
            return math.inf
        moved = math.sqrt(_length(node.outputs[0], axis)) * float(scale.max()) / 2
        return self.norm(quantize.inputs[0], axis) + moved

    def _norm_of_row(self, node: ir.Node, value: ir.Value) -> float:
        """Along the last axis."""
        source = node.inputs[0]
        if _is_softmax(value):
            return 1.0
        if node.op_type == "LayerNormalization":
            length, gain, bias = _normalized(node)
            return length * float(np.abs(gain).max()) + float(np.linalg.norm(bias))
        if node.op_type == "Reshape":
            whole, part = _length(source, -1), _length(value, -1)
            parts = math.isfinite(whole) and math.isfinite(part) and not whole % part
            return self.norm(source, -1) if parts else math.inf
        if node in self._biased:
            added = constant_array(self._biased[node].bias)
            row = self.norm(self._biased[node].node.outputs[0], -1)
            return math.inf if added is None else row + float(np.linalg.norm(added))
        if node in self._linears:
            bounds = LinearBounds.of(self._linears[node])
            return math.inf if bounds is None else bounds.norm(self.norm(source, -1))
        return math.inf


def _largest_dequantized(node: ir.Node) -> float:
    """Of int8 and int4 codes around 0; other codes are not a deployed graph's."""
    quantizer = read_quantizer(node)
    scale, point = quantizer.scale, quantizer.zero_point
    if scale is None or point is None or point.any() or quantizer.codes not in _LARGEST_CODE:
        return math.inf
    return _LARGEST_CODE[quantizer.codes] * float(np.abs(scale.astype(np.float64)).max())


def _normalized(
    node: ir.Node,
) -> tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of a LayerNormalization: the length of a normalized row, gain and bias.

    Infinite where the graph computes one of them, or normalizes more than the last axis.
    """
    source = node.inputs[0]
    rank = 0 if source is None or source.shape is None else len(source.shape)
    gain = constant_array(node.inputs[1])
    bias = _bias(node)
    if gain is None or bias is None or node.attributes.get_int("axis", -1) not in {-1, rank - 1}:
        return math.inf, np.ones(1), np.zeros(1)
    length = math.sqrt(_length(source, -1))
    return length, gain.astype(np.float64).reshape(-1), bias.astype(np.float64).reshape(-1)


def _bias(node: ir.Node) -> npt.NDArray[Any] | None:
    """Of a LayerNormalization: zero where it has none, None where the graph computes it."""
    absent = len(node.inputs) < 3 or node.inputs[2] is None
    return np.zeros(1) if absent else constant_array(node.inputs[2])


def _is_softmax(value: ir.Value | None) -> bool:
    """Whether `value` is probabilities along its last axis, in whatever type."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type == "Cast" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "Softmax" or node.domain:
        return False
    shape = node.outputs[0].shape
    last = -1 if shape is None else len(shape) - 1
    return node.attributes.get_int("axis", -1) in {-1, last}


def _dtype(value: ir.Value) -> ir.DataType | None:
    return value.dtype if value.const_value is None else value.const_value.dtype


def _length(value: ir.Value | None, axis: int) -> float:
    """The size of `axis`; infinity where it is dynamic or unknown."""
    shape = None if value is None else value.shape
    if shape is None or len(shape) < -axis:
        return math.inf
    size = shape[axis]
    return float(size) if isinstance(size, int) else math.inf


def _or_infinity(bound: float) -> float:
    """NaN, which infinity times zero is, claims nothing."""
    return math.inf if math.isnan(bound) else bound
