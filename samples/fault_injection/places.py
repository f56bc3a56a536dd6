"""Where a fault is planted: layers, quantizers and nodes of a graph by their whole module names."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes import LinearLayer, linear_layers, module_of
from passes.constants import constant_array
from passes.lint.fixes.parameters import replace_constant

__all__ = [
    "ATTENTION",
    "BLOCK",
    "EMBEDDINGS",
    "NEXT",
    "POSITIONS",
    "TYPES",
    "WORDS",
    "Change",
    "add_node",
    "change_input",
    "codes_of",
    "layer_of",
    "node_of",
    "nodes_of",
    "pair_of",
    "quantizer_changed",
    "recoded",
    "rescaled",
]

EMBEDDINGS = "bert.embeddings"
WORDS, POSITIONS, TYPES = (
    f"{EMBEDDINGS}.{part}_embeddings" for part in ("word", "position", "token_type")
)
BLOCK, NEXT = "bert.encoder.layer.0", "bert.encoder.layer.1"
ATTENTION = f"{BLOCK}.attention.self"

Change: TypeAlias = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def layer_of(model: ir.Model, module: str) -> LinearLayer:
    """The linear layer of a module."""
    (found,) = (each for each in linear_layers(model.graph) if each.module == module)
    return found


def nodes_of(model: ir.Model, module: str, kind: str) -> list[ir.Node]:
    """The nodes of an operator in a module, in order."""
    return [n for n in model.graph if n.op_type == kind and module_of(n) == module]


def node_of(model: ir.Model, module: str, kind: str) -> ir.Node:
    """The first node of an operator in a module."""
    return nodes_of(model, module, kind)[0]


def pair_of(model: ir.Model, module: str) -> tuple[ir.Node, ir.Node]:
    """QuantizeLinear and DequantizeLinear of a quantizer."""
    return node_of(model, module, "QuantizeLinear"), node_of(model, module, "DequantizeLinear")


def codes_of(model: ir.Model, module: str) -> npt.NDArray[Any]:
    """The stored numbers of a layer as PyTorch has them, (out, in)."""
    return layer_of(model, module).weight.matrix.T


def change_input(node: ir.Node, index: int, change: Change) -> None:
    """Give this node alone another constant."""
    array = constant_array(node.inputs[index])
    assert array is not None
    replace_constant(node, index, np.array(change(array.copy()), order="C"))


def recoded(module: str, change: Change) -> Callable[[ir.Model], None]:
    """An edit of the stored numbers of a layer, which `change` gets as PyTorch has them."""

    def edit(model: ir.Model) -> None:
        layer = layer_of(model, module)
        matrix = np.ascontiguousarray(change(layer.weight.matrix.T.copy()).T)
        stored = matrix if layer.weight.reduction_axis == 0 else matrix.T
        reader, index = layer.node, 1
        if layer.weight.path:
            reader, index = layer.weight.path[0], 0
        replace_constant(reader, index, np.ascontiguousarray(stored))

    return edit


def rescaled(module: str, change: Change) -> Callable[[ir.Model], None]:
    """An edit of the scales of a layer's weight."""

    def edit(model: ir.Model) -> None:
        dequantize = layer_of(model, module).weight.dequantize
        assert dequantize is not None
        change_input(dequantize.node, 1, change)

    return edit


def quantizer_changed(module: str, index: int, change: Change) -> Callable[[ir.Model], None]:
    """An edit of the scale (1) or zero-point (2) of a quantizer, in both its nodes."""

    def edit(model: ir.Model) -> None:
        for node in pair_of(model, module):
            change_input(node, index, change)

    return edit


def add_node(
    before: ir.Node, kind: str, inputs: Iterable[ir.Value | None], **attributes: Any
) -> ir.Value:
    """A new node in front of `before` and of its module; returns its output."""
    graph = before.graph
    assert isinstance(graph, ir.Graph)
    made = ir.node(kind, list(inputs), attributes)
    taken = {node.name for node in graph}
    made.name = next(
        f"planted_{kind}_{n}" for n in range(1000) if f"planted_{kind}_{n}" not in taken
    )
    made.metadata_props.update(before.metadata_props)
    made.outputs[0].name = f"{made.name}_output"
    graph.insert_before(before, made)
    return made.outputs[0]
