"""Activations quantized around another zero-point than 0 in; int8 around 0 out, rounded anew.

The new scale covers the old range: `max(|low|, |high|) / 127` with `low` and `high` the values of
the outermost codes. A softmax ends at 1, so its scale is 1/127 at most. Values change by at most
half a new step, which is at most about one old one.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from passes.constants import constant
from passes.contract import GraphPass
from passes.ledger import Change, Entry, Skip
from passes.lint.fixes.parameters import (
    dequantizers,
    is_blocked,
    replace_constant,
    set_int8_zero_point,
)
from passes.lint.walk import producer
from passes.quantizers import Quantizer, is_quantize, read_quantizer

__all__ = ["SymmetricActivations"]

_LIMIT = 127
_CODES = {ir.DataType.INT8: (-128, 127), ir.DataType.UINT8: (0, 255)}


class SymmetricActivations(GraphPass):
    """Widens asymmetric ranges of 8-bit activations until they are symmetric."""

    preserves_values: ClassVar[bool] = False

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One QuantizeLinear with all its DequantizeLinear nodes at a time."""
        for node in graph:
            if not is_quantize(node) or is_blocked(node) or constant(node.inputs[0]) is not None:
                continue
            quantizer = read_quantizer(node)
            if _is_symmetric(quantizer) or quantizer.codes not in _CODES:
                continue
            if quantizer.scale is None or quantizer.zero_point is None or quantizer.scale.size > 1:
                yield Skip.at(node, "it has no single constant scale and zero-point")
                continue
            inverses = dequantizers(node)
            if inverses is None:
                yield Skip.at(node, "its codes are read by something else than DequantizeLinear")
                continue
            scale = _symmetric_scale(quantizer)
            yield Change.at(node, f"scale {quantizer.scale.item():.6g} made {scale.item():.6g}")
            for each in (quantizer, *inverses):
                replace_constant(each.node, 1, scale)
                set_int8_zero_point(each)


def _is_symmetric(quantizer: Quantizer) -> bool:
    """Int8 around 0, or uint8 around 128, which CentreActivations moves without rounding."""
    centre = {ir.DataType.INT8: 0, ir.DataType.UINT8: 128}.get(quantizer.codes)
    return quantizer.zero_point is not None and bool(np.all(quantizer.zero_point == centre))


def _symmetric_scale(quantizer: Quantizer) -> np.ndarray:
    assert quantizer.scale is not None, "the caller saw one"
    assert quantizer.zero_point is not None, "the caller saw one"
    point = int(quantizer.zero_point.ravel()[0])
    largest = max(abs(code - point) for code in _CODES[quantizer.codes])
    scale = quantizer.scale * np.asarray(largest / _LIMIT, quantizer.scale.dtype)
    maker = producer(quantizer.node.inputs[0])
    if maker is not None and maker.op_type == "Softmax":
        scale = np.minimum(scale, np.asarray(1 / _LIMIT, quantizer.scale.dtype))
    return np.asarray(scale, quantizer.scale.dtype)
