"""Constants of a graph, as initializers or Constant nodes: read, store, and drop when unread."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = [
    "constant",
    "constant_array",
    "constant_values",
    "drop_unread",
    "drop_unread_node",
    "free_name",
    "readers",
    "store",
]


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer or Constant node, or None where `value` is computed or fed."""
    if value is None or value.is_graph_input():  # an initializer that is an input can be overridden
        return None
    producer = value.producer()
    if producer is not None and producer.op_type != "Constant":
        return None  # a folder's cached result; the node still computes it
    return ir.convenience.get_const_tensor(value)


def constant_array(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The numbers of a constant, or None where `value` is computed or fed."""
    tensor = constant(value)
    return None if tensor is None else tensor.numpy()


def constant_values(graph: ir.Graph) -> set[ir.Value]:
    """Every node output of `graph` that depends on constants alone."""
    known: set[ir.Value] = set()
    for node in graph:
        sources = [value for value in node.inputs if value is not None]
        fixed = bool(sources) and all(v in known or constant(v) is not None for v in sources)
        if fixed or node.op_type == "Constant":
            known.update(node.outputs)
    return known


def readers(value: ir.Value) -> Iterable[ir.Node]:
    """The nodes that read `value`, each once, in the order they were connected."""
    return dict.fromkeys(usage.node for usage in value.uses())


def store(graph: ir.Graph, array: npt.NDArray[Any], name: str) -> ir.Value:
    """A new initializer of `graph` that holds `array`, under `name` or the next free one."""
    free = free_name(graph, name)
    tensor = ir.Tensor(np.asarray(array, order="C"), name=free)
    value = ir.Value(
        name=free,
        const_value=tensor,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
    )
    graph.register_initializer(value)
    return value


def drop_unread(value: ir.Value | None) -> None:
    """Remove a constant that nothing reads any more, so that its memory can go."""
    if value is None or value.uses() or value.is_graph_output() or value.is_graph_input():
        return
    producer, graph = value.producer(), value.graph
    if graph is None:
        return
    if producer is not None and producer.op_type == "Constant":
        graph.remove(producer, safe=True)
    elif value.name is not None:
        graph.initializers.pop(value.name, None)


def drop_unread_node(node: ir.Node) -> None:
    """Remove a node of one output that nothing reads any more, and the constants it alone read."""
    output = node.outputs[0]
    if output.uses() or output.is_graph_output() or node.graph is None:
        return
    inputs = tuple(node.inputs)
    node.graph.remove(node, safe=True)
    for value in inputs:
        drop_unread(value)


def free_name(graph: ir.Graph, name: str) -> str:
    """`name`, or `name_1`, `name_2`, …: the first that no value of the graph or below it has."""
    graphs = (graph, *graph.subgraphs())
    taken = {value.name for each in graphs for value in (*each.inputs, *each.initializers.values())}
    taken.update(value.name for node in graph.all_nodes() for value in node.outputs)
    candidate, suffix = name, 0
    while candidate in taken:
        suffix += 1
        candidate = f"{name}_{suffix}"
    return candidate
