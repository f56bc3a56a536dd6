"""Stored weights that share a zero-point, or have none, in; a zero-point for each of them out.

On x86 CPUs without VNNI onnxruntime's kernels for uint8 by int8 saturate in int16. With
`session.x64quantprecision` it makes such weights uint8 and rewrites the zero-point beside each. It
cannot load a model in which two weights share one, which exporters merge, nor run one without any.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.constants import constant, constant_array, readers, store
from passes.contract import GraphPass
from passes.ledger import Change
from passes.quantizer_invariants import weight_zero_points_are_their_own
from passes.quantizers import is_dequantize

__all__ = ["OwnZeroPoints"]


class OwnZeroPoints(GraphPass):
    """Writes out the zero-point of each stored weight; values stay as they are.

    1. One that other nodes read too is copied; its last reader keeps it.
    2. One that is absent, which means 0, is written in the shape of the scale.
    """

    establishes = (weight_zero_points_are_their_own,)

    def rewrite(self, graph: ir.Graph) -> Iterator[Change]:
        """One walk in order."""
        for node in graph:
            codes = constant(node.inputs[0]) if is_dequantize(node) else None
            if codes is None:
                continue
            if len(node.inputs) < 3:
                node.resize_inputs(3)
            old = node.inputs[2]
            if old is None:
                scale = constant_array(node.inputs[1])
                shape = () if scale is None else scale.shape
                point = np.zeros(shape, codes.dtype.numpy())
                node.replace_input_with(2, store(graph, point, "zero_point_own"))
                yield Change.at(node, "its zero-point of 0 was written out")
            elif constant(old) is not None and len(list(readers(old))) > 1:
                own = store(graph, np.array(constant_array(old)), f"{old.name}_own")
                node.replace_input_with(2, own)
                yield Change.at(node, "given a zero-point of its own")
