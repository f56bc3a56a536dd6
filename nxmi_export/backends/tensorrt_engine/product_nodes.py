"""An engine's layers and a graph's products in, which layer computes which of them out.

A layer named after nodes computes those. One named after its steps lists all nodes that took part
in it, the product before it included where its rescaling was fused into this one; which of several
it multiplies, nothing says.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer
from nxmi_export.backends.tensorrt_engine.int8_layers import is_fused_attention, is_product

__all__ = ["PRODUCTS_OF_ATTENTION", "EngineProduct", "ProductNodes", "times_seen"]

PRODUCTS_OF_ATTENTION = 2  # query with key, probabilities with value


@dataclass(frozen=True, slots=True)
class EngineProduct:
    """A layer that is a matrix product, and of which nodes."""

    layer: EngineLayer
    nodes: tuple[str, ...]  # products of the graph that it is sure to compute
    candidates: tuple[str, ...]  # several, of which it computes nobody knows which


@dataclass(frozen=True, slots=True)
class ProductNodes:
    """The matrix products of a graph, by the names of their nodes."""

    module_of: Mapping[str, str]  # of each MatMul and Gemm, linears in float included
    together: tuple[Collection[str], ...] = ()  # nodes that read one value, as query, key and value

    def of_module(self, module: str) -> tuple[str, ...]:
        """In the order of the graph; several where a block with shared weights runs repeatedly."""
        return tuple(node for node, name in self.module_of.items() if name == module)

    def found_in(self, layers: Iterable[EngineLayer]) -> tuple[EngineProduct, ...]:
        """Every layer that is a product, in the order of the engine."""
        return tuple(self._product(layer) for layer in layers if is_product(layer))

    def _product(self, layer: EngineLayer) -> EngineProduct:
        listed = tuple(node for node in layer.onnx_nodes if node in self.module_of)
        if is_fused_attention(layer):
            return EngineProduct(layer, self._attended(listed), ())
        if named := layer.named_nodes:
            return EngineProduct(layer, tuple(node for node in listed if node in named), ())
        if len(listed) < 2 or any(set(listed) <= set(group) for group in self.together):
            return EngineProduct(layer, listed, ())
        return EngineProduct(layer, (), listed)

    def _attended(self, listed: tuple[str, ...]) -> tuple[str, ...]:
        """Both products of one attention, without linears whose rescaling was fused into it."""
        modules = Counter(self.module_of[node] for node in listed)
        pairs = {name for name, count in modules.items() if count == PRODUCTS_OF_ATTENTION}
        return tuple(node for node in listed if self.module_of[node] in pairs) or listed


def times_seen(products: Iterable[EngineProduct], nodes: Collection[str]) -> int:
    """In how many profiles each of the nodes is computed, of the one that is in the fewest.

    Layers of one place are one profile's: two of them do not stand for two profiles.
    """
    places: dict[str, set[str]] = {node: set() for node in nodes}
    for product in products:
        for node in places.keys() & set(product.nodes):
            places[node].add(product.layer.place)
    return min(map(len, places.values()), default=0)
