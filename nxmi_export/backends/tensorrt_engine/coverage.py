"""Which modules of the PyTorch model run in INT8 in the built engine, each with its evidence."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer
from nxmi_export.backends.tensorrt_engine.int8_layers import (
    describe,
    is_fused_attention,
    multiplies_int8,
)
from nxmi_export.backends.tensorrt_engine.product_nodes import (
    PRODUCTS_OF_ATTENTION,
    EngineProduct,
    ProductNodes,
    times_seen,
)
from nxmi_export.backends.tensorrt_engine.verdict import Verdict, weakest

__all__ = ["Int8Coverage", "ModuleEvidence", "Verdict", "int8_coverage"]


@dataclass(frozen=True, slots=True)
class ModuleEvidence:
    """What the engine's layers show about one module."""

    module: str
    verdict: Verdict  # of: its matrix products read INT8
    reason: str
    writes_int8: bool  # the same kernel also writes INT8, which sparse INT8 kernels must
    layers: tuple[EngineLayer, ...]  # what runs its products, empty where it was not found
    in_every_profile: bool  # whether each profile shows all of its products

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
    products: ProductNodes,
    *,
    linears: Collection[str],
    attentions: Collection[str],
    profiles: int = 1,
) -> Int8Coverage:
    """Look every module up in the engine's layers; one that cannot be found is unproven.

    `products` has one node for a linear and two for an attention, or as many for each run of a
    block with shared weights. `attentions` is empty for a placement that leaves attention in float.
    Each of the `profiles` has kernels of its own, and must show them.
    """
    engine = _Engine(tuple(layers), products.found_in(layers), profiles)
    return Int8Coverage(
        tuple(_linear(name, products.of_module(name), engine) for name in sorted(linears)),
        tuple(_attention(name, products.of_module(name), engine) for name in sorted(attentions)),
    )


@dataclass(frozen=True, slots=True)
class _Engine:
    layers: tuple[EngineLayer, ...]
    products: tuple[EngineProduct, ...]
    profiles: int


def _linear(module: str, nodes: tuple[str, ...], engine: _Engine) -> ModuleEvidence:
    """Proved if each engine GEMM of the module's nodes reads INT8, refuted if one reads floats.

    Query, key and value are usually one GEMM named after three nodes; it counts for each of them.
    """
    found = [product for product in engine.products if set(nodes) & set(product.nodes)]
    if not (seen := times_seen(found, nodes)):
        return _not_found(module, nodes, engine)
    prefix = f"in {seen} of {engine.profiles} profiles: " if seen < engine.profiles else ""
    return _evidence(module, found, prefix, in_every_profile=not prefix)


def _attention(module: str, nodes: tuple[str, ...], engine: _Engine) -> ModuleEvidence:
    """Proved if fused kernels hold all products, two each, and read query, key and value in INT8.

    One kernel for each run: a block with shared weights (ALBERT) runs repeatedly. Refuted if a
    product is a kernel of its own in any profile.
    """
    found = [product for product in engine.products if set(nodes) & set(product.nodes)]
    apart = [product for product in found if not is_fused_attention(product.layer)]
    if apart:
        whole = times_seen(found, nodes) >= engine.profiles
        return _evidence(module, apart, "not fused: ", in_every_profile=whole, refuted=True)
    fused = [each for each in found if len(set(nodes) & set(each.nodes)) == PRODUCTS_OF_ATTENTION]
    if not (seen := times_seen(fused, nodes)):
        return _not_found(module, nodes, engine)
    prefix = f"fused in {seen} of {engine.profiles} profiles: " if seen < engine.profiles else ""
    return _evidence(module, fused, prefix, in_every_profile=not prefix)


def _evidence(
    module: str,
    products: Iterable[EngineProduct],
    prefix: str,
    *,
    in_every_profile: bool,
    refuted: bool = False,
) -> ModuleEvidence:
    layers = tuple(product.layer for product in products)
    answers = {multiplies_int8(layer) for layer in layers}
    verdict = Verdict.UNPROVEN
    if refuted or False in answers:
        verdict = Verdict.REFUTED
    elif in_every_profile and answers == {True}:
        verdict = Verdict.PROVED
    return ModuleEvidence(
        module=module,
        verdict=verdict,
        reason=prefix + "; ".join(describe(layer) for layer in layers),
        writes_int8=all(_writes_int8(layer) for layer in layers),
        layers=layers,
        in_every_profile=in_every_profile,
    )


def _writes_int8(layer: EngineLayer) -> bool:
    return {output.datatype for output in layer.outputs} == {"Int8"}


def _not_found(module: str, nodes: tuple[str, ...], engine: _Engine) -> ModuleEvidence:
    unclear = [each for each in engine.products if set(nodes) & set(each.candidates)]
    seen = sorted({layer.type for layer in engine.layers if set(nodes) & set(layer.onnx_nodes)})
    if not nodes:
        reason = "no MatMul or Gemm node of the graph belongs to it"
    elif unclear:
        several = " or ".join(unclear[0].candidates)
        reason = f"{describe(unclear[0].layer)} may be of {several}"
    elif seen:
        reason = f"{' and '.join(nodes)} only within layers of type {', '.join(seen)}"
    else:
        reason = f"the build log lists no layer made from {' and '.join(nodes)}"
    return ModuleEvidence(
        module, Verdict.UNPROVEN, reason, writes_int8=False, layers=(), in_every_profile=False
    )


def _count(modules: Iterable[ModuleEvidence]) -> int:
    return sum(module.verdict is Verdict.PROVED for module in modules)
