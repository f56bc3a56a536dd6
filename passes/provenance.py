"""Where a node came from: the PyTorch module that the capture recorded on it."""

import onnx_ir as ir

__all__ = ["MODULE_KEY", "describe", "module_of"]

MODULE_KEY = "nxmi.module"  # written on every node by the capture, kept by every pass


def module_of(node: ir.Node) -> str:
    """The name of the PyTorch module that produced `node`; empty where the capture wrote none."""
    return node.metadata_props.get(MODULE_KEY, "")


def describe(node: ir.Node) -> str:
    """`node` as an error names it: module first, since that is what the reader knows."""
    label = f"{node.op_type} {node.name or node.outputs[0].name}"
    module = module_of(node)
    return f"{module} ({label})" if module else label
