"""Operators that TensorRT's parser or builder does not take."""

from collections.abc import Iterator

import onnx_ir as ir

from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading
from passes.lint.walk import MOVERS, producer, walk_back
from passes.quantizers import is_dequantize

__all__ = [
    "attention_operator",
    "foreign_operator",
    "integer_operator",
    "one_by_one_convolution",
    "unread_function",
    "unread_product",
]

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
    "unread-function",
    Severity.REFUSE,
    remedy="give it what its function takes, or write out the operators of its body",
)
def unread_function(reading: Reading) -> Iterator[Place]:
    """The parser reads the body of a local function at every call, and refuses a call with more or
    fewer inputs than the function, of itself, or with a graph as an attribute. No rule sees into
    such a body.
    """
    for node in reading.nodes:
        if node.op_identifier() in reading.model.functions:
            yield node, f"a call of {node.domain}.{node.op_type} whose body was not read"


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


@rule(
    "unread-product",
    Severity.NOTE,
    remedy="write it as a MatMul whose second operand is the weight, or read the build's log",
)
def unread_product(reading: Reading) -> Iterator[Place]:
    """Quantized products of other forms build, and may run in INT8; no other rule sees them, so
    that what these find is not all there is.
    """
    for node in reading.nodes:
        if node.domain or not any(map(_is_dequantized, node.inputs)):
            continue
        if node.op_type == "Einsum":
            yield node, "an Einsum of quantized values"
        elif node.op_type in {"Gemm", "MatMul"} and _is_weight_first(reading, node):
            yield node, f"a {node.op_type} whose first operand is the weight"


def _is_dequantized(value: ir.Value | None) -> bool:
    return is_dequantize(producer(walk_back(value, MOVERS | {"Cast"})))


def _is_weight_first(reading: Reading, node: ir.Node) -> bool:
    first, second = node.inputs[:2]
    return reading.is_constant(first) and not reading.is_constant(second)
