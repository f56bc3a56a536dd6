"""Models whose rewriting needs a later opset of ONNX: checked before, declared after."""

import onnx_ir as ir

from passes.errors import RefusedGraph

__all__ = ["check_opset", "declare_opset"]

_OLDEST = 20  # of what an older graph holds, operators have changed since
_CHANGED = frozenset({"GroupNormalization"})  # from opset 20 to 23; other changes only add types


def check_opset(model: ir.Model, subject: str, opset: int) -> None:
    """Raise `RefusedGraph` for a graph that would mean something else in `opset`, 21 to 23."""
    version = model.opset_imports.get("", 0)
    changed = sorted({node.op_type for node in model.graph.all_nodes()} & _CHANGED)
    if version < _OLDEST or (version < opset and changed):
        raise RefusedGraph(
            subject,
            expected=f"a graph of ONNX opset {opset}, or one that means the same in it",
            found=f"opset {version}" + (f" with {', '.join(changed)}" if changed else ""),
            remedy="capture the model again",
        )


def declare_opset(model: ir.Model, opset: int, ir_version: int) -> None:
    """Let `model` declare these versions, or later ones that it declares already."""
    model.opset_imports[""] = max(model.opset_imports[""], opset)
    model.ir_version = max(model.ir_version, ir_version)
