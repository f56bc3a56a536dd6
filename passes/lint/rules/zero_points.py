"""Zero-points: TensorRT quantizes symmetrically, to int8."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading
from passes.quantizer_invariants import UNSIGNED_ZERO_POINT
from passes.quantizers import Quantizer

__all__ = [
    "activation_zero_point",
    "uint8_activation",
    "uint8_around_128",
    "uint8_weight",
    "weight_zero_point",
]


@rule(
    "activation-zero-point",
    Severity.REFUSE,
    remedy="quantize activations symmetrically, or let --requantize widen the range (not exact)",
)
def activation_zero_point(reading: Reading) -> Iterator[Place]:
    """The parser refuses a zero-point other than 0."""
    for each in reading.activations:
        if not _is(each, 0) and not _is_uint8_around_128(each):
            yield each.node, f"{_text(each)} for an activation"


@rule("uint8-around-128", Severity.REFUSE, remedy="--fix stores the same codes as int8 around 0")
def uint8_around_128(reading: Reading) -> Iterator[Place]:
    """The parser refuses the zero-point, though int8 around 0 are the same codes."""
    for each in reading.activations:
        if _is_uint8_around_128(each):
            yield each.node, f"{_text(each)} for an activation"


@rule(
    "uint8-activation",
    Severity.ALTER,
    remedy="quantize to int8, or let --requantize double the scale (not exact)",
)
def uint8_activation(reading: Reading) -> Iterator[Place]:
    """The parser reads uint8 around 0 as int8, with no more than a warning: codes above 127 clip,
    so a softmax quantized at 1/255 saturates at one half.
    """
    for each in reading.activations:
        if each.codes == ir.DataType.UINT8 and _is(each, 0):
            yield each.node, "uint8 codes around 0, which TensorRT takes for int8"


@rule(
    "weight-zero-point",
    Severity.REFUSE,
    remedy="quantize weights symmetrically; --fix stores shifted codes, or the floats of a table",
)
def weight_zero_point(reading: Reading) -> Iterator[Place]:
    """The parser refuses a zero-point other than 0, and a shifted one turns pruned weights
    non-zero.
    """
    for each in reading.stored:
        if each.codes not in {ir.DataType.UINT8, ir.DataType.INT32} and not _is(each, 0):
            yield each.node, f"{_text(each)} for a stored tensor"


@rule(
    "uint8-weight",
    Severity.REFUSE,
    remedy="store int8 codes around 0; --fix does it where the shifted codes fit int8",
)
def uint8_weight(reading: Reading) -> Iterator[Place]:
    """The parser refuses stored uint8 codes, whatever their zero-point."""
    for each in reading.stored:
        if each.codes == ir.DataType.UINT8:
            yield each.node, f"{_text(each)} for a stored tensor"


def _is(quantizer: Quantizer, point: int) -> bool:
    return quantizer.zero_point is not None and bool(np.all(quantizer.zero_point == point))


def _is_uint8_around_128(quantizer: Quantizer) -> bool:
    return quantizer.codes == ir.DataType.UINT8 and _is(quantizer, UNSIGNED_ZERO_POINT)


def _text(quantizer: Quantizer) -> str:
    kind = str(quantizer.codes).lower()
    if quantizer.zero_point is None:
        return f"{kind} codes with a computed zero-point"
    points = sorted(set(quantizer.zero_point.ravel().tolist()))
    shown = ", ".join(map(str, points[:3])) + (", …" if len(points) > 3 else "")
    return f"{kind} codes with zero-point {shown}"
