"""Types of codes: which of ONNX's integer and small float types TensorRT has."""

from collections.abc import Iterator

import onnx_ir as ir

from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading
from passes.quantizers import Quantizer, is_dequantize, is_quantize

__all__ = [
    "blocks_times_int8",
    "code_type",
    "fp8_capability",
    "int4_per_channel",
    "int8_blocks",
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
    """INT4 weights with one scale per tensor or channel are expanded in every run by a kernel of
    their own, to INT8 beside INT8 data and else to floats: nothing is saved.
    """
    for each in reading.stored:
        if each.codes == ir.DataType.INT4:
            yield each.node, "int4 codes with a scale per tensor or channel"


@rule(
    "blocks-times-int8",
    Severity.REFUSE,
    remedy="leave the data in float, or give the weights one scale per output channel",
)
def blocks_times_int8(reading: Reading) -> Iterator[Place]:
    """One scale per block is for weights beside float data: the product with quantized data does
    not build.
    """
    for node, data in _multiplied(reading):
        if is_dequantize(data.producer()):
            yield node, f"the quantized data {data.name} in the same product"


@rule(
    "int8-blocks",
    Severity.DEGRADE,
    remedy="give the weights one scale per output channel, and quantize the data",
)
def int8_blocks(reading: Reading) -> Iterator[Place]:
    """INT8 weights with one scale per block are expanded to floats in every run, by a kernel of
    their own; only INT4 blocks are expanded inside the product.
    """
    for node, data in _multiplied(reading):
        codes = node.inputs[0]
        int8 = codes is not None and codes.dtype == ir.DataType.INT8
        if int8 and not is_dequantize(data.producer()):
            yield node, "int8 codes with a scale per block"


def _multiplied(reading: Reading) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Every DequantizeLinear of blocks that a product reads as its weight, with its data."""
    for node in reading.blocked:
        for usage in node.outputs[0].uses():
            data = usage.node.inputs[0]
            if usage.idx == 1 and usage.node.op_type in {"Gemm", "MatMul"} and data is not None:
                yield node, data


def _once_per_pair(reading: Reading) -> Iterator[Quantizer]:
    """Every quantizer but the DequantizeLinear of a computed pair."""
    for each in reading.quantizers:
        source = each.node.inputs[0]
        pair = source is not None and is_quantize(source.producer())
        if not (is_dequantize(each.node) and pair):
            yield each
