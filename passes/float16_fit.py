"""A region of float nodes in, why it must not become float16 out, or nothing."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.constants import constant
from passes.float16_casts import hides
from passes.float16_invariants import LARGEST, MASK, SCORES
from passes.float_regions import Region, is_mask
from passes.ledger import Skip
from passes.magnitudes import Magnitudes

__all__ = ["hiding_masks", "misfit"]

_SMALLEST = float(np.finfo(np.float16).tiny)  # below it, float16 has fewer than eleven bits


def misfit(region: Region, magnitudes: Magnitudes) -> Skip | None:
    """Why `region` stays float32, at the node that decides it; None where it may be float16.

    1. It leads to a graph output: the interface is float32, and ties of logits are predictions.
    2. A value may leave the range of float16, by all that the numbers of the graph prove.
    3. A single constant is too small for it, such as the epsilon of a norm in pieces.
    4. A mask would not hide what it is added to.
    """
    for node in region.nodes:
        if any(value.is_graph_output() for value in node.outputs):
            return Skip.at(region.nodes[0], "stays float32: it leads to a graph output")
    values = {*region.inputs, *region.outputs}
    for node in region.nodes:
        for value in (*node.inputs, *node.outputs):
            if value in values and (why := _misfit(value, magnitudes)):
                return Skip.at(node, f"stays float32: {why}")
        if why := _bad_mask(node, magnitudes):
            return Skip.at(node, f"stays float32: {why}")
    return None


def hiding_masks(graph: ir.Graph) -> Iterator[ir.Value]:
    """Every additive mask whose lowest number float16 does not hold."""
    for node in graph:
        if is_mask(node):
            branches = (constant(value) for value in node.inputs[1:])
            if any(tensor is not None and hides(tensor) for tensor in branches):
                yield node.outputs[0]


def _misfit(value: ir.Value | None, magnitudes: Magnitudes) -> str:
    tensor, largest = constant(value), magnitudes.largest(value)
    if not largest <= LARGEST:
        return f"{_name(value)} may reach {largest:.3g}"
    if tensor is not None and tensor.size == 1 and 0 < largest < _SMALLEST:
        return f"the constant {_name(value)} is {largest:.3g}"
    return ""


def _bad_mask(node: ir.Node, magnitudes: Magnitudes) -> str:
    """What `node` does with a mask that becomes `MASK`, where that is not to hide scores."""
    for index, value in enumerate(node.inputs):
        producer = None if value is None else value.producer()
        if producer is None or not is_mask(producer) or magnitudes.largest(value) < -MASK:
            continue
        if node.op_type != "Add":
            return f"{node.op_type} reads the mask {producer.outputs[0].name}"
        score = node.inputs[1 - index]
        largest = magnitudes.largest(score)
        if score is None or not largest <= SCORES:
            return f"the scores that a mask is added to may reach {largest:.3g}"
    return ""


def _name(value: ir.Value | None) -> str:
    return "nothing" if value is None else str(value.name)
