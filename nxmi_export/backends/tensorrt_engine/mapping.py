"""An engine's products held against the graph's: which module each runs, which one runs nowhere.

Coverage asks about modules; this asks the other way round as well, so that a product of the engine
that no module accounts for cannot go unnoticed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer
from nxmi_export.backends.tensorrt_engine.int8_layers import is_fused_attention, is_gemm
from nxmi_export.backends.tensorrt_engine.verdict import Verdict

__all__ = [
    "EngineMapping",
    "MergeEvidence",
    "engine_mapping",
    "merge_evidence",
]


@dataclass(frozen=True, slots=True)
class EngineMapping:
    """Every product of the engine with its modules, and what either side has alone."""

    modules: Mapping[str, tuple[str, ...]]  # engine layer → modules, in the order of the engine
    unmapped: tuple[str, ...]  # engine layers that are products and hold no module's
    missing: tuple[str, ...]  # nodes of the graph that are products and in no engine layer's

    @property
    def is_complete(self) -> bool:
        """Whether there are products, and each is on both sides."""
        return bool(self.modules) and not self.unmapped and not self.missing

    def as_json(self) -> dict[str, Any]:
        """Plain data: layer names with their modules, then what is left over."""
        return {
            "complete": self.is_complete,
            "modules": {layer: list(names) for layer, names in self.modules.items()},
            "unmapped": list(self.unmapped),
            "missing": list(self.missing),
        }


@dataclass(frozen=True, slots=True)
class MergeEvidence:
    """Whether linears that read one value, such as query, key and value, run as one product."""

    modules: tuple[str, ...]
    verdict: Verdict
    reason: str


def engine_mapping(layers: Sequence[EngineLayer], module_of: Mapping[str, str]) -> EngineMapping:
    """Give every product of the engine its modules.

    `module_of` maps each MatMul and Gemm of the graph to its module (`product_modules`); a node
    with an empty module accounts for nothing, so the layer that runs it is unmapped.
    """
    modules: dict[str, tuple[str, ...]] = {}
    unmapped, held = [], set[str]()
    for layer in layers:
        nodes = _product_nodes(layer)
        if nodes is None:
            continue
        known = [node for node in nodes if node in module_of]
        held.update(known)
        names = tuple(dict.fromkeys(module_of[node] for node in known))
        if names and all(names):
            modules[layer.name] = names
        else:
            unmapped.append(layer.name)
    missing = tuple(node for node in module_of if node not in held)
    return EngineMapping(modules, tuple(unmapped), missing)


def merge_evidence(
    layers: Sequence[EngineLayer],
    groups: Iterable[Collection[str]],
    module_of: Mapping[str, str],
) -> tuple[MergeEvidence, ...]:
    """Judge every group of nodes that read one value (`shared_input_nodes`).

    Proved if one product is named after all of them, refuted if each is found and they are not
    together, unproven if one is not found.
    """
    products = [layer for layer in layers if is_gemm(layer)]
    return tuple(_merged(products, tuple(nodes), module_of) for nodes in groups)


def _merged(
    products: Sequence[EngineLayer], nodes: tuple[str, ...], module_of: Mapping[str, str]
) -> MergeEvidence:
    modules = tuple(module_of.get(node, "") or node for node in nodes)
    found = [layer for layer in products if set(nodes) & set(layer.principal_nodes)]
    names = ", ".join(layer.name for layer in found)
    if any(set(nodes) <= set(layer.principal_nodes) for layer in found):
        return MergeEvidence(modules, Verdict.PROVED, f"one product: {names}")
    held = {node for layer in found for node in layer.principal_nodes}
    lost = [node for node in nodes if node not in held]
    if lost:
        reason = f"the build log lists no product named after {', '.join(lost)}"
        return MergeEvidence(modules, Verdict.UNPROVEN, reason)
    return MergeEvidence(modules, Verdict.REFUTED, f"{len(found)} products: {names}")


def _product_nodes(layer: EngineLayer) -> tuple[str, ...] | None:
    """The ONNX nodes that a product computes; None for a layer that is none."""
    if is_fused_attention(layer):
        return layer.onnx_nodes
    return layer.principal_nodes if is_gemm(layer) else None
