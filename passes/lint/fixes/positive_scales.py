"""Stored codes with zero or negative scales in; equal numbers with positive scales out.

1. A channel with scale 0 stands for zeros: its codes become 0 and its scale 1.
2. A channel with a negative scale changes the sign of codes and scale; −128 has no negative.

Every number but zero keeps its bits. A zero that was negative (0 × −s) becomes positive, which no
integer has another code for; the two are equal, and add and multiply to equal numbers.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.constants import constant_array
from passes.contract import GraphPass
from passes.ledger import Change, Entry, Skip
from passes.lint.fixes.parameters import is_blocked, replace_constant
from passes.lint.fixes.store_int8_codes import along_axis
from passes.quantizers import is_dequantize, read_quantizer

__all__ = ["PositiveScales"]


class PositiveScales(GraphPass):
    """Makes the scales of stored int8 codes positive."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One DequantizeLinear of a constant at a time."""
        for node in graph:
            codes = constant_array(node.inputs[0]) if is_dequantize(node) else None
            if codes is None or codes.dtype != np.int8 or is_blocked(node):
                continue
            quantizer = read_quantizer(node)
            scale, point = quantizer.scale, quantizer.zero_point
            if scale is None or point is None or np.all(scale > 0):
                continue
            if point.any() or not np.all(np.isfinite(scale)):
                yield Skip.at(node, "its scale is not finite or its zero-point is not 0")
                continue
            signed = codes.astype(np.int64) * along_axis(np.sign(scale), quantizer, codes)
            if signed.max() > np.iinfo(np.int8).max:
                yield Skip.at(node, "the code -128 has no negative in int8")
                continue
            count = int(np.sum(scale <= 0))
            yield Change.at(node, f"{count} of {scale.size} scales made positive")
            replace_constant(node, 0, signed.astype(np.int8))
            positive = np.where(scale == 0, np.ones_like(scale), np.abs(scale))
            replace_constant(node, 1, positive.astype(scale.dtype))
