"""An engine's products held against the graph's: which module each runs, which one runs nowhere.

Coverage asks about modules; this asks the other way round as well, so that a product of the engine
that no module accounts for cannot go unnoticed. Each profile of an engine has layers of its own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer
from nxmi_export.backends.tensorrt_engine.int8_layers import is_fused_attention
from nxmi_export.backends.tensorrt_engine.product_nodes import (
    EngineProduct,
    ProductNodes,
    times_seen,
)
from nxmi_export.backends.tensorrt_engine.verdict import Verdict

__all__ = [
    "EngineMapping",
    "MergeEvidence",
    "UnmappedLayer",
    "engine_mapping",
    "merge_evidence",
]


@dataclass(frozen=True, slots=True)
class UnmappedLayer:
    """A product of the engine that no module accounts for."""

    layer: EngineLayer
    verdict: Verdict  # refuted where it is of another graph, unproven where nothing names it
    reason: str


@dataclass(frozen=True, slots=True)
class EngineMapping:
    """Every product of the engine with its modules, and what either side has alone."""

    modules: Mapping[str, tuple[str, ...]]  # engine layer → modules, in the order of the engine
    unmapped: tuple[UnmappedLayer, ...]
    missing: tuple[str, ...]  # nodes of the graph that are products and not in every profile

    @property
    def products(self) -> int:
        """Of the engine, in all profiles."""
        return len(self.modules) + len(self.unmapped)

    @property
    def is_complete(self) -> bool:
        """Whether there are products, and each is on both sides."""
        return bool(self.modules) and not self.unmapped and not self.missing

    def as_json(self) -> dict[str, Any]:
        """Plain data: layer names with their modules, then what is left over."""
        return {
            "complete": self.is_complete,
            "modules": {layer: list(names) for layer, names in self.modules.items()},
            "unmapped": [each.layer.name for each in self.unmapped],
            "missing": list(self.missing),
        }


@dataclass(frozen=True, slots=True)
class MergeEvidence:
    """Whether linears that read one value, such as query, key and value, run as one product."""

    modules: tuple[str, ...]
    verdict: Verdict
    reason: str
    layers: tuple[EngineLayer, ...] = ()  # the products that were found


def engine_mapping(
    layers: Sequence[EngineLayer],
    products: ProductNodes,
    *,
    profiles: int = 1,
    required: Collection[str] | None = None,
) -> EngineMapping:
    """Give every product of the engine its modules.

    A node with an empty module accounts for nothing, so the layer that runs it is unmapped. Nodes
    of modules that are not `required` (None: all are) may be missing: float attentions fuse in ways
    of their own.
    """
    module_of = products.module_of
    modules: dict[str, tuple[str, ...]] = {}
    unmapped = []
    found = products.found_in(layers)
    for number, product in enumerate(found):
        name = product.layer.name
        names = tuple(dict.fromkeys(module_of[node] for node in product.nodes))
        if names and all(names):
            # The inspector may give layers of several profiles one name.
            modules[name if name not in modules else f"{name} {number}"] = names
        else:
            unmapped.append(_unmapped(product))
    missing = tuple(
        node
        for node, module in module_of.items()
        if times_seen(found, [node]) < profiles and (required is None or module in required)
    )
    return EngineMapping(modules, tuple(unmapped), missing)


def merge_evidence(
    layers: Sequence[EngineLayer],
    groups: Iterable[Collection[str]],
    products: ProductNodes,
    *,
    profiles: int = 1,
) -> tuple[MergeEvidence, ...]:
    """Judge every group of nodes that read one value (`shared_input_nodes`).

    Proved if in each profile one product computes all of them and none computes some, refuted if
    each is found and they are not together, unproven if one is not found.
    """
    found = [each for each in products.found_in(layers) if not is_fused_attention(each.layer)]
    return tuple(_merged(found, tuple(nodes), products.module_of, profiles) for nodes in groups)


def _unmapped(product: EngineProduct) -> UnmappedLayer:
    if product.nodes:
        told = f"{product.nodes[0]} has no module in the graph"
    elif product.candidates:
        told = f"any of the nodes {', '.join(product.candidates)}"
    elif product.layer.onnx_nodes:
        told = "ONNX nodes that are no products of the graph"
        return UnmappedLayer(product.layer, Verdict.REFUTED, told)
    else:
        told = "no ONNX node"
    return UnmappedLayer(product.layer, Verdict.UNPROVEN, told)


def _merged(
    products: Sequence[EngineProduct],
    nodes: tuple[str, ...],
    module_of: Mapping[str, str],
    profiles: int,
) -> MergeEvidence:
    modules = tuple(module_of.get(node, "") or node for node in nodes)
    found = tuple(product for product in products if set(nodes) & set(product.nodes))
    layers = tuple(product.layer for product in found)
    if lost := [node for node in nodes if times_seen(found, [node]) < profiles]:
        where = f" in each of {profiles} profiles" if profiles > 1 else ""
        reason = f"the build log lists no product named after {', '.join(lost)}{where}"
        return MergeEvidence(modules, Verdict.UNPROVEN, reason, layers)
    names = ", ".join(layer.name for layer in layers)
    if all(set(nodes) <= set(product.nodes) for product in found):
        told = "one product" if profiles == 1 else f"one product in each of {profiles} profiles"
        return MergeEvidence(modules, Verdict.PROVED, f"{told}: {names}", layers)
    return MergeEvidence(modules, Verdict.REFUTED, f"{len(found)} products: {names}", layers)
