"""Operators that TensorRT's parser or builder does not take."""

from collections.abc import Iterator

import onnx_ir as ir

from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading

__all__ = ["attention_operator", "foreign_operator", "integer_operator", "one_by_one_convolution"]

_INTEGER = {
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
}
_OWN_DOMAINS = {"", "ai.onnx", "trt.plugins"}
# The parser looks at names, not at domains: these are ONNX's own under another one.
_KNOWN_NAMES = {"DequantizeLinear", "Gelu", "QuantizeLinear"}


@rule(
    "integer-operator",
    Severity.REFUSE,
    remedy="export QuantizeLinear and DequantizeLinear around float operators (QDQ format)",
)
def integer_operator(reading: Reading) -> Iterator[Place]:
    """The parser knows no operator on integers; it fuses float operators between Q and DQ."""
    for node in reading.nodes:
        if node.op_type in _INTEGER and not node.domain:
            yield node, f"the operator {node.op_type}"


@rule(
    "foreign-operator",
    Severity.REFUSE,
    remedy="export without runtime-specific fusions (onnxruntime: before optimizing the graph)",
)
def foreign_operator(reading: Reading) -> Iterator[Place]:
    """The parser knows ONNX's operators, local functions and its plugins: none of com.microsoft."""
    functions = {(domain, name) for domain, name, _ in reading.model.functions}
    for node in reading.nodes:
        known = node.op_type in _KNOWN_NAMES or (node.domain, node.op_type) in functions
        if node.domain not in _OWN_DOMAINS and not known:
            yield node, f"the operator {node.domain}.{node.op_type}"


@rule(
    "attention-operator",
    Severity.REFUSE,
    remedy="export with eager attention, as MatMul, Softmax and MatMul",
)
def attention_operator(reading: Reading) -> Iterator[Place]:
    """ONNX's Attention (opset 23) parses, and fails to build on FP32."""
    for node in reading.nodes:
        if node.op_type == "Attention" and not node.domain:
            kind = node.inputs[0].dtype if node.inputs[0] is not None else None
            if kind in {ir.DataType.FLOAT, None}:
                yield node, "ONNX's Attention operator on FP32"


@rule(
    "convolution-for-linear",
    Severity.NOTE,
    remedy="keep MatMul, which TensorRT 10 and later handle as well or better",
)
def one_by_one_convolution(reading: Reading) -> Iterator[Place]:
    """A 1×1 convolution in the place of a linear layer helped before TensorRT 10; now it keeps
    query, key and value from being merged.
    """
    for node in reading.nodes:
        if node.op_type == "Conv" and not node.domain:
            shape = None if node.inputs[1] is None else node.inputs[1].shape
            if shape is not None and all(size == 1 for size in tuple(shape)[2:]):
                yield node, f"a convolution with kernel {list(shape)[2:]}"
