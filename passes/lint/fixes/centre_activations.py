"""Activations quantized to uint8 around 128 in; the same codes as int8 around 0 out.

Both saturate at the same values, so no value changes. Only pairs: codes that something else than
DequantizeLinear reads would be 128 less there.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.contract import GraphPass
from passes.ledger import Change, Entry, Skip
from passes.lint.fixes.parameters import dequantizers, is_blocked, set_int8_zero_point
from passes.quantizer_invariants import UNSIGNED_ZERO_POINT
from passes.quantizers import is_quantize, read_quantizer

__all__ = ["CentreActivations"]


class CentreActivations(GraphPass):
    """Moves uint8 codes around 128 to int8 around 0, which is all that TensorRT parses."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One QuantizeLinear with all its DequantizeLinear nodes at a time."""
        for node in graph:
            if not is_quantize(node) or is_blocked(node):
                continue
            quantizer = read_quantizer(node)
            centred = quantizer.zero_point is not None and bool(
                np.all(quantizer.zero_point == UNSIGNED_ZERO_POINT)
            )
            if quantizer.codes != ir.DataType.UINT8 or not centred or quantizer.scale is None:
                continue
            inverses = dequantizers(node)
            if inverses is None:
                yield Skip.at(node, "its codes are read by something else than DequantizeLinear")
                continue
            yield Change.at(node, "uint8 codes around 128 made int8 around 0")
            for each in (quantizer, *inverses):
                set_int8_zero_point(each)
