"""One linear as an ONNX graph of its own, quantized as the exported models are.

float      x → MatMul → Add
int8       x → Q → DQ → MatMul → Add                  the weight is int8 codes → DQ
int8 out   x → Q → DQ → MatMul → Add → Q → codes
int8 2:4   the same                                   of every four codes along K two are 0

Where activations arrive quantized, x are the codes and the first Q is left out.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from nxmi_export.latency.shapes import LinearShape
from nxmi_export.latency.table import INT8_OUT, Kind

__all__ = ["SIGNED", "UNSIGNED", "Activations", "gemm_graph", "gemm_input"]

FloatArray: TypeAlias = npt.NDArray[np.float32]

_OPSET = 20  # what exported models have
_IR_VERSION = 10  # the newest that every onnxruntime in use reads
_LIMIT = 4.0  # standard normal inputs rarely lie beyond


@dataclass(frozen=True)
class Activations:
    """How a target has its activations quantized."""

    codes: type[np.int8] | type[np.uint8]
    zero_point: int
    # TensorRT merges a quantizer with the operation in front of it, onnxruntime runs it by itself.
    arrive_quantized: bool


UNSIGNED = Activations(np.uint8, 128, arrive_quantized=False)
"""As `model.cpu.onnx` has them."""

SIGNED = Activations(np.int8, 0, arrive_quantized=True)
"""As `model.onnx` has them."""


def gemm_graph(
    shape: LinearShape,
    kind: Kind,
    activations: Activations,
    *,
    input_shape: tuple[int | str, ...],
    rng: np.random.Generator,
) -> onnx.ModelProto:
    """The graph of one linear with a random weight; input "x" of `input_shape`, output "y"."""
    graph = _Graph(activations)
    codes_in = kind != "float" and activations.arrive_quantized
    value = "x"
    if kind != "float":
        value = graph.dequantize("x" if codes_in else graph.quantize("x"))
    value = graph.node("MatMul", value, graph.weight(shape, kind, rng))
    value = graph.node("Add", value, graph.store(rng.normal(size=shape.outputs), np.float32))
    if kind in INT8_OUT:
        value = graph.quantize(value)
    graph.node("Identity", value, output="y")
    quantized = helper.np_dtype_to_tensor_dtype(np.dtype(activations.codes))
    x_type = quantized if codes_in else TensorProto.FLOAT
    y_type = quantized if kind in INT8_OUT else TensorProto.FLOAT
    output_shape = (*input_shape[:-1], shape.outputs)
    return graph.model(
        helper.make_tensor_value_info("x", x_type, input_shape),
        helper.make_tensor_value_info("y", y_type, output_shape),
    )


def gemm_input(
    shape: tuple[int, ...], kind: Kind, activations: Activations, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """Values for "x": standard normal, or their codes where activations arrive quantized."""
    x = rng.normal(size=shape).astype(np.float32)
    if kind == "float" or not activations.arrive_quantized:
        return x
    codes = np.rint(x * (127 / _LIMIT)) + activations.zero_point
    limits = np.iinfo(activations.codes)
    return np.asarray(codes.clip(limits.min, limits.max), activations.codes)


class _Graph:
    """Nodes and constants of a graph that is being written."""

    def __init__(self, activations: Activations) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        scale = self.store(_LIMIT / 127, np.float32)
        point = self.store(activations.zero_point, activations.codes)
        self.quantizer = (scale, point)

    def store(self, content: npt.ArrayLike, dtype: type[np.generic]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(content, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None) -> str:
        name = f"{operator}_{len(self.nodes)}"
        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name))
        return output

    def quantize(self, value: str) -> str:
        return self.node("QuantizeLinear", value, *self.quantizer)

    def dequantize(self, value: str) -> str:
        return self.node("DequantizeLinear", value, *self.quantizer)

    def weight(self, shape: LinearShape, kind: Kind, rng: np.random.Generator) -> str:
        """(K, N), in float or as codes with a scale for each of the N channels."""
        if kind == "float":
            return self.store(rng.normal(size=shape) / shape.inputs**0.5, np.float32)
        codes = rng.integers(-127, 128, size=shape)
        if kind == "int8 2:4":
            codes *= _two_of_four(shape, rng)
        scales = np.full(shape.outputs, 1 / (127 * shape.inputs**0.5))
        points = self.store(np.zeros(shape.outputs), np.int8)
        stored = (self.store(codes, np.int8), self.store(scales, np.float32), points)
        value = self.node("DequantizeLinear", *stored)
        self.nodes[-1].attribute.append(helper.make_attribute("axis", 1))
        return value

    def model(self, x: onnx.ValueInfoProto, y: onnx.ValueInfoProto) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "linear", [x], [y], self.constants)
        opsets = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _two_of_four(shape: LinearShape, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A mask of `shape` with two ones in every four along K; a rest below four stays dense."""
    groups = shape.inputs // 4
    order = rng.random((groups, 4, shape.outputs)).argsort(axis=1)
    mask = np.ones(shape, np.int64)
    mask[: 4 * groups] = (order < 2).reshape(4 * groups, shape.outputs)
    return mask
