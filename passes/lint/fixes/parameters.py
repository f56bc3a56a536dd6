"""Giving a QuantizeLinear or DequantizeLinear node other constants than it had."""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import drop_unread, readers, store
from passes.quantizers import Quantizer, is_dequantize, read_quantizer

__all__ = ["dequantizers", "is_blocked", "replace_constant", "set_int8_zero_point"]


def is_blocked(node: ir.Node) -> bool:
    """Whether the node has one scale per block."""
    return bool(node.attributes.get_int("block_size", 0))


def dequantizers(quantize: ir.Node) -> tuple[Quantizer, ...] | None:
    """The readers of a QuantizeLinear; None where any is something else than its inverse."""
    codes, own = quantize.outputs[0], read_quantizer(quantize)
    found = [read_quantizer(node) for node in readers(codes) if is_dequantize(node)]
    inverses = len(found) == len(tuple(readers(codes))) and all(q.inverts(own) for q in found)
    return None if codes.is_graph_output() or not inverses else tuple(found)


def replace_constant(node: ir.Node, index: int, array: npt.NDArray[np.generic]) -> None:
    """Let input `index` of `node` be a new initializer, named after the one it was."""
    old = node.inputs[index] if index < len(node.inputs) else None
    stem = f"{node.outputs[0].name}_{index}" if old is None else str(old.name)
    graph = node.graph
    assert isinstance(graph, ir.Graph), "passes rewrite graphs, not functions"
    new = store(graph, array, stem)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, new)
    drop_unread(old)


def set_int8_zero_point(quantizer: Quantizer) -> None:
    """Make the codes int8 around 0; the numbers they stand for are the caller's business."""
    node = quantizer.node
    assert quantizer.scale is not None, "the caller saw a constant scale"
    replace_constant(node, 2, np.zeros(quantizer.scale.shape, np.int8))
    if not is_dequantize(node):
        node.attributes.pop("output_dtype", None)
        node.outputs[0].type = ir.TensorType(ir.DataType.INT8)
