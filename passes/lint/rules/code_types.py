"""Types of codes: which of ONNX's integer and small float types TensorRT has."""

from collections.abc import Iterator

import onnx_ir as ir

from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading
from passes.quantizers import Quantizer, is_dequantize, is_quantize

__all__ = [
    "code_type",
    "fp8_capability",
    "int4_blocks_times_int8",
    "int4_per_channel",
    "stored_bias",
]

_KNOWN = {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.FLOAT8E4M3FN}
_FIRST_WITH_FP8 = 89


@rule(
    "code-type",
    Severity.REFUSE,
    remedy="quantize to int8; --fix does it for stored 4-bit codes",
)
def code_type(reading: Reading) -> Iterator[Place]:
    """The parser knows INT8, INT4 and FP8-E4M3: not INT16, UINT4 or FP8-E5M2."""
    for each in _once_per_pair(reading):
        # int32 is what biases are stored as; another rule has more to say about it.
        if each.codes not in _KNOWN | {ir.DataType.INT32, ir.DataType.UNDEFINED}:
            yield each.node, f"{str(each.codes).lower()} codes"


@rule("fp8-capability", Severity.REFUSE, remedy="build for SM89 or later, or quantize to int8")
def fp8_capability(reading: Reading) -> Iterator[Place]:
    """FP8 products exist from SM89 on; for an older GPU the build fails."""
    if reading.sm >= _FIRST_WITH_FP8:
        return
    for each in _once_per_pair(reading):
        if each.codes == ir.DataType.FLOAT8E4M3FN:
            yield each.node, f"FP8 codes in an engine for SM{reading.sm}"


@rule("stored-bias", Severity.REFUSE, remedy="store biases as floats; --fix does it, exactly")
def stored_bias(reading: Reading) -> Iterator[Place]:
    """The parser refuses a DequantizeLinear of int32 codes, which is how others store biases."""
    for each in reading.stored:
        if each.codes == ir.DataType.INT32:
            yield each.node, "an int32 constant behind a DequantizeLinear"


@rule(
    "int4-per-channel",
    Severity.DEGRADE,
    remedy="store the codes as int8, where W4A8 runs as INT8; --fix does it, exactly",
)
def int4_per_channel(reading: Reading) -> Iterator[Place]:
    """INT4 weights with one scale per tensor or channel are expanded to floats in the engine:
    nothing is saved and no INT8 kernel runs.
    """
    for each in reading.stored:
        if each.codes == ir.DataType.INT4:
            yield each.node, "int4 codes with a scale per tensor or channel"


@rule(
    "int4-blocks-times-int8",
    Severity.REFUSE,
    remedy="leave the data of INT4 weights in float, or store the weights as int8 codes",
)
def int4_blocks_times_int8(reading: Reading) -> Iterator[Place]:
    """INT4 with one scale per block is weight-only: TensorRT-RTX fails to build a product of it
    with quantized data.
    """
    for node in reading.blocked:
        for usage in node.outputs[0].uses():
            product, data = usage.node, usage.node.inputs[0]
            multiplied = usage.idx == 1 and product.op_type in {"Gemm", "MatMul"}
            if multiplied and data is not None and is_dequantize(data.producer()):
                yield node, f"the quantized data {data.name} in the same product"


def _once_per_pair(reading: Reading) -> Iterator[Quantizer]:
    """Every quantizer but the DequantizeLinear of a computed pair."""
    for each in reading.quantizers:
        source = each.node.inputs[0]
        pair = source is not None and is_quantize(source.producer())
        if not (is_dequantize(each.node) and pair):
            yield each
