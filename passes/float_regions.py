"""A graph in, its float arithmetic sorted out: what stays float32, and the regions between.

An island is float32 in every deployed graph: quantizers, because a scale in float16 makes other
codes; products of dequantized numbers with their bias, because their sums are integers times
scales; LayerNormalization and Softmax, whose sums and epsilons float16 does not hold. A region is
what lies between islands: float nodes that hand values to each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from passes.constants import constant, constant_values
from passes.embedding_tables import embedding_tables
from passes.linear_layers import linear_layers
from passes.quantizers import is_dequantize, is_quantize

__all__ = ["Region", "float_regions", "is_mask", "islands", "table_lookups"]

_ALWAYS_FLOAT32 = frozenset({"LayerNormalization", "Softmax"})
_PRODUCTS = frozenset({"Gemm", "MatMul"})
# Between a DequantizeLinear and the attention product that reads it.
_MOVERS = frozenset({"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass(frozen=True, eq=False)
class Region:
    """Float nodes between islands, in the order of the graph."""

    nodes: tuple[ir.Node, ...]

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The float values that it reads and does not make, constants included, each once."""
        own = self.outputs
        read = (v for node in self.nodes for v in node.inputs if v is not None and _is_float(v))
        return tuple(dict.fromkeys(value for value in read if value not in own))

    @property
    def outputs(self) -> dict[ir.Value, None]:
        """The float values that it makes, in order."""
        return dict.fromkeys(v for node in self.nodes for v in node.outputs if _is_float(v))

    @property
    def is_stored(self) -> bool:
        """Whether an engine has to write down what the region works on.

        Its products read and write memory, and what a LayerNormalization leaves for a residual
        addition waits there for it. Anything else between two islands is arithmetic on the way
        from one kernel to its quantizer, in registers, where float16 would round and save nothing.
        """
        sources = (value.producer() for value in self.inputs)
        return any(node.op_type in _PRODUCTS for node in self.nodes) or any(
            node is not None and node.op_type == "LayerNormalization" for node in sources
        )


def islands(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that stay float32."""
    found = {
        node
        for node in graph
        if is_quantize(node)
        or is_dequantize(node)
        or (node.op_type in _ALWAYS_FLOAT32 and not node.domain)
        or (node.op_type == "MatMul" and any(map(_reads_codes, node.inputs)))
    }
    for layer in linear_layers(graph):
        if layer.weight.dequantize is not None:
            found.add(layer.node)
            if layer.add is not None:
                found.add(layer.add)
    return found


def float_regions(graph: ir.Graph) -> Iterator[Region]:
    """Every region of `graph`, in the order of its first node; subgraphs are their own graphs."""
    apart = islands(graph) | set(table_lookups(graph))
    fixed = constant_values(graph)
    free = [node for node in graph if node not in apart and _is_free(node, fixed)]
    group = {node: [node] for node in free}
    for node in free:
        for value in node.inputs:
            maker = None if value is None or not _is_float(value) else value.producer()
            if maker in group and group[maker] is not group[node]:
                joined = group[maker] + group[node]
                group.update(dict.fromkeys(joined, joined))
    place = {node: index for index, node in enumerate(free)}
    for node in free:
        nodes = sorted(group[node], key=place.__getitem__)
        if nodes[0] is node:
            yield Region(tuple(nodes))


def table_lookups(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every Gather of rows from a constant float32 table; scales of INT8 rows are no table."""
    for table in embedding_tables(graph):
        stored = constant(table.constant)
        if stored is not None and stored.dtype == ir.DataType.FLOAT:
            yield table.node


def is_mask(node: ir.Node) -> bool:
    """Whether `node` chooses between two constant floats: an additive attention mask.

    Every layer reads the same mask, which does not make one region of them.
    """
    return (
        node.op_type == "Where"
        and not node.domain
        and all(constant(value) is not None for value in node.inputs[1:])
    )


def _is_free(node: ir.Node, fixed: set[ir.Value]) -> bool:
    subgraphs = any(
        a.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}
        for a in node.attributes.values()
    )
    return (
        not node.domain
        and not subgraphs
        and node.op_type not in {"Cast", "Constant"}
        and not is_mask(node)
        and any(map(_is_float, node.outputs))
        and not any(value in fixed for value in node.outputs)
    )


def _reads_codes(value: ir.Value | None) -> bool:
    """Whether `value` is a dequantized activation or weight, but for its shape."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in _MOVERS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return is_dequantize(node)


def _is_float(value: ir.Value) -> bool:
    tensor = constant(value)
    return (value.dtype if tensor is None else tensor.dtype) == ir.DataType.FLOAT
