"""Reading QuantizeLinear and DequantizeLinear nodes: scale, zero-point and axis as numbers."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import constant, constant_array

__all__ = ["Quantizer", "is_dequantize", "is_quantize", "read_quantizer"]


@dataclass(frozen=True, eq=False)  # arrays have no single truth; compare `key`
class Quantizer:
    """The parameters of one QuantizeLinear or DequantizeLinear node."""

    node: ir.Node
    scale: npt.NDArray[Any] | None  # None where the graph computes it
    zero_point: npt.NDArray[np.int64] | None  # None where computed; zeros where absent
    codes: ir.DataType  # of the integers
    axis: int | None  # the channel of the scale; None for one scale per tensor
    block: int | None = None  # with one scale per block: the codes along `axis` that share it

    @property
    def key(self) -> Hashable:
        """Equal for quantizers that map equal values to equal results, whatever holds their
        constants: exporters merge and duplicate constants, so identity means nothing.
        """
        attributes = sorted(
            (name, attribute.value)
            for name, attribute in self.node.attributes.items()
            if name not in {"axis", "output_dtype"}  # read into `axis` and `codes`
        )
        return (
            self._constant_key(1, self.scale),
            self._constant_key(2, self.zero_point),
            self.codes,
            self.axis,
            tuple(attributes),
        )

    def inverts(self, other: "Quantizer") -> bool:
        """Whether this DequantizeLinear undoes that QuantizeLinear: same scale, point and axis."""
        return (
            self._constant_key(1, self.scale) == other._constant_key(1, other.scale)
            and self._constant_key(2, self.zero_point) == other._constant_key(2, other.zero_point)
            and self.codes == other.codes
            and (self.axis, self.block) == (other.axis, other.block)
        )

    def _constant_key(self, index: int, array: npt.NDArray[Any] | None) -> Hashable:
        if array is None:
            return id(self.node.inputs[index])
        return (array.dtype.str, array.size, array.tobytes())


def is_quantize(node: ir.Node | None) -> bool:
    """Whether `node` is ONNX's own QuantizeLinear."""
    return node is not None and node.op_type == "QuantizeLinear" and node.domain == ""


def is_dequantize(node: ir.Node | None) -> bool:
    """Whether `node` is ONNX's own DequantizeLinear."""
    return node is not None and node.op_type == "DequantizeLinear" and node.domain == ""


def read_quantizer(node: ir.Node) -> Quantizer:
    """Read a QuantizeLinear or DequantizeLinear, with one scale per tensor, channel or block."""
    scale = constant_array(node.inputs[1])
    point_value = node.inputs[2] if len(node.inputs) > 2 else None
    codes = _codes(node, point_value)
    if point_value is None:
        point: npt.NDArray[Any] | None = np.zeros(1 if scale is None else scale.shape)
    else:
        point = constant_array(point_value)
    zero_point = None if point is None else point.astype(np.int64)
    block = node.attributes.get_int("block_size", 0) or None
    return Quantizer(node, scale, zero_point, codes, _axis(node, scale), block)


def _codes(node: ir.Node, zero_point: ir.Value | None) -> ir.DataType:
    """The integer type: of the zero-point if there is one, else as the operator defaults."""
    tensor = constant(zero_point)  # a Constant node's output need not state its type
    if tensor is not None:
        return tensor.dtype
    if zero_point is not None and zero_point.dtype is not None:
        return zero_point.dtype
    if is_dequantize(node):
        source = node.inputs[0]
        if source is not None and source.dtype is not None:
            return source.dtype
        producer = None if source is None else source.producer()
        if producer is None or not is_quantize(producer):
            return ir.DataType.UNDEFINED
        return read_quantizer(producer).codes
    return ir.DataType(node.attributes.get_int("output_dtype", 0) or ir.DataType.UINT8)


def _axis(node: ir.Node, scale: npt.NDArray[Any] | None) -> int | None:
    """The channel axis counted from the front; ONNX ignores the attribute of a scalar scale."""
    if scale is not None and scale.ndim == 0:
        return None
    axis = node.attributes.get_int("axis", 1)
    source = node.inputs[0]
    if axis < 0 and source is not None and source.shape is not None:
        axis += len(source.shape)
    return axis
