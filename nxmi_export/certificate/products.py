"""The ONNX graph of an engine in, the PyTorch module behind each of its matrix products out."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nxmi_export.backends.tensorrt_engine import ProductNodes
from nxmi_export.parity.graph_quantizers import module_names, open_graph
from passes.linear_layers import attention_matmuls, linear_layers
from passes.numerics import group_violations
from passes.provenance import module_of

__all__ = ["Products", "read_products"]


@dataclass(frozen=True)
class Products:
    """Every product of a graph, by the name of its node."""

    nodes: ProductNodes  # with the module names of PyTorch, of linears and attentions
    two_of_four: frozenset[str]  # linears, of any scheme, whose stored numbers are 2:4


def read_products(path: Path, structure: nn.Module) -> Products:
    """Read the graph at `path`; a block with shared weights goes by PyTorch's first name.

    Raises ArtefactError for a damaged file.
    """
    graph, names = open_graph(path).graph, module_names(structure)
    modules: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    two_of_four = set()
    for layer in linear_layers(graph):
        name = names.get(layer.module, layer.module)
        modules[str(layer.node.name)] = name
        readers.setdefault(str(layer.data.name), []).append(str(layer.node.name))
        matrix = layer.weight.matrix  # (K, N)
        if not matrix.shape[0] % 4 and not len(group_violations(matrix, 2, 4, axis=0)):
            two_of_four.add(name)
    for node in attention_matmuls(graph):
        modules[str(node.name)] = names.get(module_of(node), module_of(node))
    together = tuple(tuple(nodes) for nodes in readers.values() if len(nodes) > 1)
    return Products(ProductNodes(modules, together), frozenset(two_of_four))
