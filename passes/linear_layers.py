"""Reading a graph as linear layers: each `y = x W + b`, its stored weight, scale and axes.

A linear layer is a MatMul or Gemm whose weight operand is a constant matrix, seen through
Transpose, QuantizeLinear, Clip, DequantizeLinear, Cast and Identity. A product of two activations
is an attention matmul.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import constant, constant_values
from passes.provenance import module_of
from passes.quantizers import Quantizer, is_dequantize, is_quantize, read_quantizer

__all__ = ["LinearLayer", "Weight", "attention_matmuls", "linear_layers"]

CARRIERS = frozenset(
    {"Cast", "Clip", "DequantizeLinear", "Identity", "QuantizeLinear", "Transpose"}
)


@dataclass(frozen=True)
class Weight:
    """The constant matrix of a linear layer, as it lies in the file."""

    constant: ir.Value  # the initializer, or the output of the Constant node
    path: tuple[ir.Node, ...]  # the nodes between the constant and the product, constant first
    reduction_axis: int  # of the stored matrix: the one that the product sums over (K)
    output_axis: int  # of the stored matrix: one slice per output channel (N)
    dequantize: Quantizer | None  # None: the product reads floats as they are stored
    # Of the stored matrix: that of the channels, or with `block` that of the blocks; None without a
    # scale or with a single one.
    scale_axis: int | None

    @property
    def stored(self) -> npt.NDArray[Any]:
        """The numbers as stored, INT4 codes as int8: (K, N) where `reduction_axis` is 0, else
        (N, K).
        """
        numbers = self._tensor.numpy()
        return numbers.astype(np.int8) if self.is_int4 else numbers

    @property
    def matrix(self) -> npt.NDArray[Any]:
        """The stored numbers as (K, N), a view where the storage is (N, K)."""
        return self.stored if self.reduction_axis == 0 else self.stored.T

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N), whichever way the matrix is stored."""
        rows, columns = self._tensor.shape.numpy()
        return (rows, columns) if self.reduction_axis == 0 else (columns, rows)

    @property
    def is_integer(self) -> bool:
        """Whether codes are stored, rather than floats."""
        return self._tensor.dtype.is_integer()

    @property
    def is_int4(self) -> bool:
        """Whether two codes are stored in a byte."""
        return self._tensor.dtype == ir.DataType.INT4

    @property
    def scale(self) -> npt.NDArray[Any] | None:
        """The dequantization scale, shape () or (N,), or with `block` one value per block of the
        stored matrix; None for a float weight.
        """
        return None if self.dequantize is None else self.dequantize.scale

    @property
    def block(self) -> int | None:
        """How many codes along `scale_axis` share one scale; None without blocks."""
        return None if self.dequantize is None else self.dequantize.block

    @property
    def steps(self) -> npt.NDArray[Any] | None:
        """The scale of every number of `matrix`, in a shape that broadcasts to (K, N)."""
        scale, axis = self.scale, self.scale_axis
        if scale is None or axis is None:
            return scale
        if self.block is not None:
            every = np.repeat(scale, self.block, axis=axis)
            return every if self.reduction_axis == 0 else every.T
        return scale[:, None] if axis == self.reduction_axis else scale

    @property
    def _tensor(self) -> ir.TensorProtocol:
        tensor = constant(self.constant)
        assert tensor is not None  # a Weight is only made of a constant
        return tensor


@dataclass(frozen=True)
class LinearLayer:
    """One product with a constant matrix, and the bias that is added to it."""

    node: ir.Node  # the MatMul or Gemm
    data: ir.Value  # the activation operand
    weight: Weight
    bias: ir.Value | None  # shape (N,)
    add: ir.Node | None  # the Add of a MatMul's bias

    @property
    def module(self) -> str:
        """The PyTorch module that the layer was captured from."""
        return module_of(self.node)

    @property
    def input_quantizer(self) -> ir.Node | None:
        """The DequantizeLinear of a quantized input; None where the input is float."""
        producer = self.data.producer()
        if not is_dequantize(producer) or producer is None or producer.inputs[0] is None:
            return None
        return producer if is_quantize(producer.inputs[0].producer()) else None


def linear_layers(graph: ir.Graph) -> Iterator[LinearLayer]:
    """Every linear layer among the nodes of `graph`, in order; subgraphs are their own graphs."""
    for node in graph:
        if node.domain or node.op_type not in {"Gemm", "MatMul"}:
            continue
        data, operand = node.inputs[:2]
        if data is None or operand is None:
            continue
        weight = _read_weight(operand, transposed=bool(node.attributes.get_int("transB", 0)))
        if weight is None:
            continue
        if node.op_type == "Gemm":
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            yield LinearLayer(node, data, weight, bias, add=None)
        else:
            yield LinearLayer(node, data, weight, *_bias_of(node, weight))


def attention_matmuls(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every MatMul of two activations among the nodes of `graph`, in order."""
    fixed = constant_values(graph)
    for node in graph:
        if node.op_type == "MatMul" and not node.domain:
            left, right = node.inputs
            if not any(v in fixed or constant(v) is not None for v in (left, right)):
                yield node


def _read_weight(operand: ir.Value, *, transposed: bool) -> Weight | None:
    """Follow `operand` back to a constant matrix; None where it does not come from one."""
    reduction, output = (1, 0) if transposed else (0, 1)
    path: list[ir.Node] = []
    dequantize: Quantizer | None = None
    scale_axis: int | None = None
    value = operand
    while constant(value) is None:
        node = value.producer()
        if node is None or node.domain or node.op_type not in CARRIERS or node.inputs[0] is None:
            return None
        path.append(node)
        if is_dequantize(node) and dequantize is None:
            dequantize = read_quantizer(node)
            scale_axis = dequantize.axis
        elif node.op_type == "Transpose":
            # Output axis i of a Transpose is input axis perm[i]; absent, the axes are reversed.
            perm = node.attributes.get_ints("perm", (1, 0))
            if sorted(perm) != [0, 1]:
                return None
            reduction, output = perm[reduction], perm[output]
            scale_axis = None if scale_axis is None else perm[scale_axis]
        value = node.inputs[0]
    tensor = constant(value)
    if tensor is None or len(tensor.shape) != 2:
        return None
    return Weight(value, tuple(reversed(path)), reduction, output, dequantize, scale_axis)


def _bias_of(matmul: ir.Node, weight: Weight) -> tuple[ir.Value | None, ir.Node | None]:
    """The constant vector that the only reader of `matmul` adds to it, and that Add.

    A product of INT8 by INT8 is float32, and a float16 graph casts it before the bias is added.
    """
    reader = _only_reader(matmul)
    if reader is not None and _is_to_float16(reader[0]):
        reader = _only_reader(reader[0])
    if reader is None or reader[0].op_type != "Add" or reader[0].domain:
        return None, None
    add, place = reader
    bias = add.inputs[1 - place]
    tensor = constant(bias)
    if tensor is None or tuple(tensor.shape) != weight.shape[1:]:
        return None, None
    return bias, add


def _only_reader(node: ir.Node) -> tuple[ir.Node, int] | None:
    """The one node that reads the output of `node`, and as which input; None for none or more."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return None
    return uses[0].node, uses[0].idx


def _is_to_float16(node: ir.Node) -> bool:
    is_cast = node.op_type == "Cast" and not node.domain
    return is_cast and node.attributes.get_int("to", 0) == ir.DataType.FLOAT16
