"""Inputs longer than tables and kernels allow."""

import numpy as np
import onnx_ir as ir

from passes import module_of
from passes.lint.fixes.parameters import replace_constant
from samples.bad_graphs.bad_graph import BadGraph
from samples.bad_graphs.places import leave

__all__ = ["GRAPHS"]


def _long_tables(model: ir.Model) -> None:
    for node in model.graph:
        table = node.inputs[0].const_value if node.inputs and node.inputs[0] is not None else None
        if table is not None and node.op_type == "Gather" and "position" in module_of(node):
            replace_constant(node, 0, np.resize(table.numpy(), (1024, table.shape[1])))
            ids = node.inputs[1].producer()
            replace_constant(ids, 0, np.arange(1024, dtype=np.int64)[None])


GRAPHS = (
    BadGraph(
        "position-limit",
        leave,
        options={"sequence": 65},
        unseen="what lies behind the table is read at run time",
    ),
    BadGraph("attention-length", _long_tables, options={"sequence": 600}),
)
