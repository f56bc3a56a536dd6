"""An ONNX file in: whether kernels that saturate could meet its weights out."""

from pathlib import Path

import onnx_ir as ir

from nxmi_export.unreadable_graph import UNREADABLE_GRAPH

__all__ = ["stores_int8_matrices"]


def stores_int8_matrices(path: Path) -> bool:
    """Whether the file stores int8 matrices; only those are multiplied by kernels that saturate.

    A file that cannot be read stores none: it is for the session to refuse.
    """
    try:
        model = ir.load(path)
    except UNREADABLE_GRAPH:
        return False
    stored = [
        value.const_value for graph in model.graphs() for value in graph.initializers.values()
    ]
    stored += [
        ir.convenience.get_const_tensor(node.outputs[0])
        for graph in model.graphs()
        for node in graph
        if node.op_type == "Constant"
    ]
    return any(
        tensor is not None and tensor.dtype == ir.DataType.INT8 and len(tensor.shape) > 1
        for tensor in stored
    )
