"""Stored codes that TensorRT refuses or cannot use in; the floats they stand for out.

1. Vectors: biases and norms, stored as int32 or int8 codes.
2. Tables around another zero-point than 0 that no product reads, such as embeddings.

DequantizeLinear is `(code − zero point) × scale` in float32, computed here instead of in the
engine, so no value changes.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.constants import constant_array, drop_unread, store
from passes.contract import GraphPass
from passes.ledger import Change, Entry, Skip
from passes.lint.fixes.parameters import is_blocked
from passes.lint.fixes.store_int8_codes import along_axis
from passes.lint.walk import MOVERS, descendants
from passes.quantizers import Quantizer, is_dequantize, read_quantizer

__all__ = ["StoreFloats"]


class StoreFloats(GraphPass):
    """Stores vectors of codes, and tables that cannot be int8 around 0, as float32."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """Replace one DequantizeLinear at a time by an initializer."""
        for node in graph:
            codes = constant_array(node.inputs[0]) if is_dequantize(node) else None
            if codes is None or is_blocked(node):
                continue
            quantizer = read_quantizer(node)
            if codes.ndim > 1 and (_is_multiplied(node) or not _is_shifted(quantizer)):
                continue
            scale, point = quantizer.scale, quantizer.zero_point
            output = node.outputs[0]
            if scale is None or point is None or scale.dtype != np.float32:
                yield Skip.at(node, "its scale or zero-point is no float32 constant")
                continue
            if output.is_graph_output():
                yield Skip.at(node, "its output is a graph output")
                continue
            shifted = codes.astype(np.int64) - along_axis(point, quantizer, codes)
            numbers = shifted.astype(np.float32) * along_axis(scale, quantizer, codes)
            yield Change.at(node, f"{codes.size} {codes.dtype} codes stored as floats")
            inputs = tuple(node.inputs)
            stored = store(graph, numbers.reshape(codes.shape), f"{output.name}_float")
            output.replace_all_uses_with(stored)
            graph.remove(node, safe=True)
            for value in inputs:
                drop_unread(value)


def _is_multiplied(node: ir.Node) -> bool:
    """Whether a product may read the numbers, which then should stay integers."""
    ahead = descendants(node.outputs[0], MOVERS)
    return any(reader.op_type in {"Conv", "Gemm", "MatMul"} for reader in ahead)


def _is_shifted(quantizer: Quantizer) -> bool:
    return quantizer.zero_point is not None and bool(quantizer.zero_point.any())
