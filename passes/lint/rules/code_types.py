"""Types of codes: which of ONNX's integer and small float types TensorRT has."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading
from passes.lint.walk import MOVERS, producer, walk_back
from passes.quantizers import Quantizer, is_dequantize, is_quantize

__all__ = [
    "blocks_times_int8",
    "cast_blocks",
    "code_type",
    "fp8_capability",
    "int4_per_channel",
    "int8_blocks",
    "stored_bias",
]

_KNOWN = {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.FLOAT8E4M3FN}
_FIRST_WITH_FP8 = 89
_CARRIERS = MOVERS | {"Cast"}


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
    for each in _block_products(reading):
        if each.is_data_quantized and not each.is_cast:
            yield each.node, f"the quantized data {each.data.name} in the same product"


@rule(
    "int8-blocks",
    Severity.DEGRADE,
    remedy="give the weights one scale per output channel, and quantize the data",
)
def int8_blocks(reading: Reading) -> Iterator[Place]:
    """INT8 weights with one scale per block are expanded to floats in every run, by a kernel of
    their own; only INT4 blocks are expanded inside the product.
    """
    for each in _block_products(reading):
        if each.is_int8 and (each.is_cast or not each.is_data_quantized):
            yield each.node, "int8 codes with a scale per block"


@rule(
    "cast-blocks",
    Severity.DEGRADE,
    remedy="store the scales in the type of the product, so that no Cast is needed",
)
def cast_blocks(reading: Reading) -> Iterator[Place]:
    """INT4 blocks that are cast between DequantizeLinear and product are expanded in every run, by
    a kernel of their own, and what they are multiplied by runs in float.
    """
    for each in _block_products(reading):
        if each.is_cast and not each.is_int8:
            yield each.node, "a Cast between blocks and the product that reads them"


@dataclass(frozen=True)
class _BlockProduct:
    """A product whose weight has one scale per block, seen through what moves or casts it."""

    node: ir.Node  # the DequantizeLinear
    data: ir.Value
    is_cast: bool  # the weight, between DequantizeLinear and product

    @property
    def is_int8(self) -> bool:
        codes = self.node.inputs[0]
        return codes is not None and codes.dtype == ir.DataType.INT8

    @property
    def is_data_quantized(self) -> bool:
        return is_dequantize(producer(walk_back(self.data, _CARRIERS)))


def _block_products(reading: Reading) -> Iterator[_BlockProduct]:
    blocked = set(reading.blocked)
    for product in reading.nodes:
        if product.op_type not in {"Gemm", "MatMul"} or product.domain:
            continue
        data, weight = product.inputs[:2]
        node = producer(walk_back(weight, _CARRIERS))
        if node is not None and data is not None and node in blocked:
            yield _BlockProduct(node, data, producer(walk_back(weight, MOVERS)) is not node)


def _once_per_pair(reading: Reading) -> Iterator[Quantizer]:
    """Every quantizer but the DequantizeLinear of a computed pair."""
    for each in reading.quantizers:
        source = each.node.inputs[0]
        pair = source is not None and is_quantize(source.producer())
        if not (is_dequantize(each.node) and pair):
            yield each
