"""Which modules of the PyTorch model run in INT8 in the built engine, each with its evidence."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer
from nxmi_export.backends.tensorrt_engine.int8_layers import (
    describe,
    is_fused_attention,
    is_gemm,
    multiplies_int8,
)
from nxmi_export.backends.tensorrt_engine.verdict import Verdict, weakest

__all__ = ["Int8Coverage", "ModuleEvidence", "Verdict", "int8_coverage"]

_PRODUCTS = 2  # of one attention: query with key, probabilities with value


@dataclass(frozen=True, slots=True)
class ModuleEvidence:
    """What the engine's layers show about one module."""

    module: str
    verdict: Verdict  # of: its matrix products read INT8
    reason: str
    writes_int8: bool  # the same kernel also writes INT8, which sparse INT8 kernels must
    layers: tuple[EngineLayer, ...]  # what runs its products, empty where it was not found

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines that its layers were read from."""
        return tuple(layer.line for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Int8Coverage:
    """Evidence for every module that was asked about, found or not."""

    linears: tuple[ModuleEvidence, ...]
    attentions: tuple[ModuleEvidence, ...]

    @property
    def verdict(self) -> Verdict:
        """Of all modules together; unproven if none was asked about."""
        return weakest(module.verdict for module in (*self.linears, *self.attentions))

    @property
    def int8_linears(self) -> int:
        """Linears proved to read INT8."""
        return _count(self.linears)

    @property
    def int8_output_linears(self) -> int:
        """Linears proved to read INT8 whose kernel also writes INT8."""
        return _count(module for module in self.linears if module.writes_int8)

    @property
    def int8_attentions(self) -> int:
        """Attentions proved to run as one fused INT8 kernel."""
        return _count(self.attentions)

    def as_json(self) -> dict[str, Any]:
        """Counts first, then every module's verdict and reason; log lines are left to the log."""
        return {
            "verdict": self.verdict,
            "linears": {
                "total": len(self.linears),
                "int8": self.int8_linears,
                "int8_output": self.int8_output_linears,
            },
            "attentions": {"total": len(self.attentions), "int8": self.int8_attentions},
            "modules": [
                {"module": each.module, "verdict": each.verdict, "reason": each.reason}
                for each in (*self.linears, *self.attentions)
            ],
        }


def int8_coverage(
    layers: Sequence[EngineLayer],
    *,
    module_of: Mapping[str, str],
    linears: Collection[str],
    attentions: Collection[str],
    profiles: int = 1,
) -> Int8Coverage:
    """Look every module up in the engine's layers; one that cannot be found is unproven.

    `module_of` maps the MatMul and Gemm nodes of the ONNX graph to module names: one node for a
    linear, both of its products for an attention (and no other node: a softmax or a reshape
    turns up in the metadata of neighbours). `attentions` is empty for a placement that leaves
    attention in float. Each of the `profiles` has kernels of its own, and must show them.
    """
    nodes: dict[str, list[str]] = {}
    for node, module in module_of.items():
        nodes.setdefault(module, []).append(node)
    return Int8Coverage(
        tuple(_linear(name, nodes.get(name, []), layers, profiles) for name in sorted(linears)),
        tuple(
            _attention(name, nodes.get(name, []), layers, profiles) for name in sorted(attentions)
        ),
    )


def _linear(
    module: str, nodes: list[str], layers: Sequence[EngineLayer], profiles: int
) -> ModuleEvidence:
    """Proved if each engine GEMM that holds a node of the module reads INT8.

    Query, key and value are usually one GEMM named after three nodes; it counts for each of them.
    """
    found = [
        layer for layer in layers if is_gemm(layer) and set(nodes) & set(layer.principal_nodes)
    ]
    held = Counter(node for layer in found for node in layer.principal_nodes)
    if not nodes or not set(nodes) <= held.keys():
        return _not_found(module, nodes, layers)
    if (seen := min(held[node] for node in nodes)) < profiles:
        return _evidence(module, Verdict.UNPROVEN, found, f"in {seen} of {profiles} profiles: ")
    answers = {multiplies_int8(layer) for layer in found}
    verdict = Verdict.PROVED if answers == {True} else Verdict.UNPROVEN
    if answers == {False}:
        verdict = Verdict.REFUTED
    return _evidence(module, verdict, found)


def _attention(
    module: str, nodes: list[str], layers: Sequence[EngineLayer], profiles: int
) -> ModuleEvidence:
    """Proved if fused kernels hold all products, two each, and read query, key and value in INT8.

    One kernel for each run: a block with shared weights (ALBERT) runs repeatedly.
    """
    fused = [
        layer
        for layer in layers
        if is_fused_attention(layer) and len(set(nodes) & set(layer.onnx_nodes)) == _PRODUCTS
    ]
    held = Counter(node for layer in fused for node in layer.onnx_nodes)
    if fused and set(nodes) <= held.keys():
        if (seen := min(held[node] for node in nodes)) < profiles:
            told = f"fused in {seen} of {profiles} profiles: "
            return _evidence(module, Verdict.UNPROVEN, fused, told)
        answers = {multiplies_int8(layer) for layer in fused}
        verdict = Verdict.PROVED if answers == {True} else Verdict.UNPROVEN
        return _evidence(module, Verdict.REFUTED if answers == {False} else verdict, fused)
    apart = [
        layer for layer in layers if is_gemm(layer) and set(nodes) & set(layer.principal_nodes)
    ]
    if apart:
        return _evidence(module, Verdict.REFUTED, apart, "not fused: ")
    return _not_found(module, nodes, layers)


def _evidence(
    module: str, verdict: Verdict, layers: Iterable[EngineLayer], prefix: str = ""
) -> ModuleEvidence:
    layers = tuple(layers)
    return ModuleEvidence(
        module=module,
        verdict=verdict,
        reason=prefix + "; ".join(describe(layer) for layer in layers),
        writes_int8=all(out.datatype == "Int8" for layer in layers for out in layer.outputs),
        layers=layers,
    )


def _not_found(module: str, nodes: list[str], layers: Sequence[EngineLayer]) -> ModuleEvidence:
    seen = sorted({layer.type for layer in layers if set(nodes) & set(layer.onnx_nodes)})
    if not nodes:
        reason = "no MatMul or Gemm node of the graph belongs to it"
    elif seen:
        reason = f"{' and '.join(nodes)} only within layers of type {', '.join(seen)}"
    else:
        reason = f"the build log lists no layer made from {' and '.join(nodes)}"
    return ModuleEvidence(module, Verdict.UNPROVEN, reason, writes_int8=False, layers=())


def _count(modules: Iterable[ModuleEvidence]) -> int:
    return sum(module.verdict is Verdict.PROVED for module in modules)
