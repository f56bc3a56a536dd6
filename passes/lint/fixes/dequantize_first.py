"""Stored codes that are moved before DequantizeLinear in; codes it reads directly out.

1. `codes → Transpose, Clip or Gather of constants → DequantizeLinear` becomes the codes that these
   make → DequantizeLinear.
2. `codes → Gather, Reshape, … → DequantizeLinear` with one scale becomes
   `codes → DequantizeLinear → Gather, Reshape, …`: moving numbers and multiplying each by the same
   one commute.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import constant_array, drop_unread_node
from passes.contract import GraphPass
from passes.ledger import Change, Entry, Skip
from passes.lint.fixes.parameters import is_blocked, replace_constant
from passes.lint.walk import MOVERS
from passes.quantizers import is_dequantize, read_quantizer

__all__ = ["DequantizeFirst"]

_FOLDED = {"Clip", "Gather", "Transpose"}


class DequantizeFirst(GraphPass):
    """Puts DequantizeLinear directly behind stored codes."""

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One DequantizeLinear at a time, until nothing stands before it."""
        for node in graph:
            while is_dequantize(node) and (mover := _mover(node)) is not None:
                entry = _fold(node, mover) or _swap(graph, node, mover)
                yield entry
                if isinstance(entry, Skip) or node.graph is None:
                    break


def _mover(node: ir.Node) -> ir.Node | None:
    """What stands between the constant codes and their DequantizeLinear."""
    source = node.inputs[0]
    mover = None if source is None else source.producer()
    if mover is None or mover.domain or mover.op_type not in _FOLDED | MOVERS:
        return None
    codes = constant_array(mover.inputs[0])
    return mover if codes is not None and np.issubdtype(codes.dtype, np.integer) else None


def _fold(node: ir.Node, mover: ir.Node) -> Change | None:
    """Case 1; None where something else than constants decides."""
    codes, *operands = [constant_array(value) for value in mover.inputs]
    given = [value is not None for value in mover.inputs[1:]]
    known = [array is not None for array in operands]
    if mover.op_type not in _FOLDED or codes is None or known != given:
        return None
    replace_constant(node, 0, _made(mover, codes, *operands))
    drop_unread_node(mover)
    return Change.at(node, f"the codes stored as {mover.op_type} makes them")


def _made(
    mover: ir.Node, codes: npt.NDArray[Any], *operands: npt.NDArray[Any] | None
) -> npt.NDArray[Any]:
    """What the operator makes of `codes`, as ONNX defines it."""
    if mover.op_type == "Transpose":
        return codes.transpose(mover.attributes.get_ints("perm", range(codes.ndim)[::-1]))
    if mover.op_type == "Gather":
        (chosen,) = operands
        assert chosen is not None, "Gather has no optional input"
        return codes.take(chosen, axis=mover.attributes.get_int("axis", 0))
    low, high = (*operands, None, None)[:2]
    above = codes if low is None else np.maximum(codes, low)
    return above if high is None else np.minimum(above, high)


def _swap(graph: ir.Graph, node: ir.Node, mover: ir.Node) -> Entry:
    """Case 2."""
    if mover.op_type == "Clip":
        return Skip.at(node, "the graph computes the limits of Clip")
    if is_blocked(node) or (scale := read_quantizer(node).scale) is None or scale.size > 1:
        return Skip.at(node, f"the scales of several channels do not move with {mover.op_type}")
    result = node.outputs[0]
    if result.is_graph_output():
        return Skip.at(node, "its output is a graph output")
    codes = mover.inputs[0]
    moved = ir.Node(
        "",
        mover.op_type,
        [result, *mover.inputs[1:]],
        tuple(mover.attributes.values()),
        name=f"{mover.name}_dequantized",
        metadata_props=dict(mover.metadata_props),
    )
    output = moved.outputs[0]
    output.name, output.shape, output.type = f"{result.name}_moved", result.shape, result.type
    result.replace_all_uses_with(output)
    moved.replace_input_with(0, result)
    node.replace_input_with(0, codes)
    result.shape = None if codes is None else codes.shape
    graph.insert_after(node, moved)
    drop_unread_node(mover)
    return Change.at(node, f"put in front of {mover.op_type}")
