"""The ONNX graph of an engine in, the PyTorch module behind each of its matrix products out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nxmi_export.parity.graph_quantizers import module_names, open_graph
from passes.linear_layers import attention_matmuls, linear_layers
from passes.numerics import group_violations
from passes.provenance import module_of

__all__ = ["Products", "read_products"]


@dataclass(frozen=True)
class Products:
    """Every product of a graph, by the name of its node."""

    modules: Mapping[str, str]  # node name → module name, of linears and attentions
    two_of_four: frozenset[str]  # linears, of any scheme, whose stored numbers are 2:4

    def nodes_of(self, module: str) -> tuple[str, ...]:
        """In the order of the graph; several where a block with shared weights runs repeatedly."""
        return tuple(node for node, name in self.modules.items() if name == module)


def read_products(path: Path, structure: nn.Module) -> Products:
    """Read the graph at `path`; a block with shared weights goes by PyTorch's first name.

    Raises ArtefactError for a damaged file.
    """
    graph, names = open_graph(path).graph, module_names(structure)
    modules: dict[str, str] = {}
    two_of_four = set()
    for layer in linear_layers(graph):
        name = names.get(layer.module, layer.module)
        modules[str(layer.node.name)] = name
        matrix = layer.weight.matrix  # (K, N)
        if not matrix.shape[0] % 4 and not len(group_violations(matrix, 2, 4, axis=0)):
            two_of_four.add(name)
    for node in attention_matmuls(graph):
        modules[str(node.name)] = names.get(module_of(node), module_of(node))
    return Products(modules, frozenset(two_of_four))
