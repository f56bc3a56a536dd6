"""An ONNX graph in, its products and what they read in common out, by node name.

Apart from `mapping`, which knows no graph: importing the package loads no ONNX library.
"""

import onnx_ir as ir

import passes
from nxmi_export.backends.tensorrt_engine.product_nodes import ProductNodes

__all__ = ["product_modules", "product_nodes", "shared_input_nodes"]

_PRODUCTS = {"Gemm", "MatMul"}


def product_nodes(model: ir.Model) -> ProductNodes:
    """Every MatMul and Gemm of the graph by its module, and which linears read one value."""
    return ProductNodes(product_modules(model), shared_input_nodes(model))


def product_modules(model: ir.Model) -> dict[str, str]:
    """The module of every MatMul and Gemm of the graph, by node name; empty where none is noted."""
    return {
        str(node.name): passes.module_of(node)
        for node in model.graph
        if node.op_type in _PRODUCTS and not node.domain
    }


def shared_input_nodes(model: ir.Model) -> tuple[tuple[str, ...], ...]:
    """The nodes of linears that multiply one and the same value, for every value with several."""
    readers: dict[ir.Value, list[str]] = {}
    for layer in passes.linear_layers(model.graph):
        readers.setdefault(layer.data, []).append(str(layer.node.name))
    return tuple(tuple(nodes) for nodes in readers.values() if len(nodes) > 1)
