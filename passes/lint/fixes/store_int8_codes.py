"""Stored codes of another integer type, or around another zero-point, in; int8 around 0 out.

`code − zero point` is what DequantizeLinear multiplies by the scale; where it fits int8 it is
stored, so no value changes. That covers uint8 around 128, int4, uint4, and int8 around anything
that leaves the codes in range.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import constant_array
from passes.contract import GraphPass
from passes.ledger import Change, Entry, Skip
from passes.lint.fixes.parameters import is_blocked, replace_constant, set_int8_zero_point
from passes.quantizers import Quantizer, is_dequantize, read_quantizer

__all__ = ["StoreInt8Codes", "along_axis"]

_INT8 = np.iinfo(np.int8)


class StoreInt8Codes(GraphPass):
    """Stores matrices of codes as int8 around 0."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One DequantizeLinear of a constant at a time; tied layers then store their codes each."""
        for node in graph:
            codes = constant_array(node.inputs[0]) if is_dequantize(node) else None
            if codes is None or codes.ndim == 1 or is_blocked(node):  # vectors: see StoreFloats
                continue
            quantizer = read_quantizer(node)
            if quantizer.scale is None or quantizer.zero_point is None or _is_done(quantizer):
                continue
            if not quantizer.codes.is_integer():
                continue
            shifted = codes.astype(np.int64) - along_axis(quantizer.zero_point, quantizer, codes)
            if shifted.size and (shifted.min() < _INT8.min or shifted.max() > _INT8.max):
                yield Skip.at(node, f"codes around 0 from {shifted.min()} to {shifted.max()}")
                continue
            kind = str(quantizer.codes).lower()
            yield Change.at(node, f"{kind} codes stored as int8 around 0")
            replace_constant(node, 0, shifted.astype(np.int8))
            set_int8_zero_point(quantizer)


def along_axis(
    parameter: npt.NDArray[Any], quantizer: Quantizer, codes: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """A scale or zero-point shaped so that it meets the codes of its channel."""
    if parameter.size == 1 or quantizer.axis is None:
        return parameter.reshape(())
    shape = [1] * codes.ndim
    shape[quantizer.axis] = parameter.size
    return parameter.reshape(shape)


def _is_done(quantizer: Quantizer) -> bool:
    around_zero = quantizer.zero_point is not None and not quantizer.zero_point.any()
    return quantizer.codes == ir.DataType.INT8 and around_zero
