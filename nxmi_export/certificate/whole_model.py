"""One account of an engine in, what it says about the encoder as a whole out."""

from collections.abc import Iterator

from nxmi_export.backends.tensorrt_engine import EngineLayer, Verdict
from nxmi_export.backends.tensorrt_engine.int8_layers import (
    describe,
    is_fused_attention,
    is_gemm,
    multiplies_int8,
)
from nxmi_export.certificate.claims import Cell, Claim, answered, not_claimed
from nxmi_export.certificate.engine_cells import EngineReading
from nxmi_export.certificate.promises import Promises

__all__ = ["engine_claims"]


def engine_claims(
    promises: Promises, reading: EngineReading | None, absent: str
) -> dict[Claim, Cell]:
    """Mapping, floats left over, and query, key and value merged.

    `reading` is None where there is no engine, for the reason `absent`.
    """
    claims = {Claim.MAPPING: _mapping, Claim.NO_FLOAT: _no_float}
    cells = {}
    if promises.merged:
        claims[Claim.MERGED_QKV] = _merged
    else:
        cells[Claim.MERGED_QKV] = not_claimed("no quantized query, key and value read one value")
    for claim, judge in claims.items():
        if reading is None:
            cells[claim] = answered(Verdict.UNPROVEN, absent)
        elif reading.witness.objection is not None:
            cells[claim] = answered(Verdict.REFUTED, reading.witness.objection)
        else:
            cells[claim] = judge(promises, reading)
    return cells


def _mapping(promises: Promises, reading: EngineReading) -> Cell:
    """Every product of the engine goes back to a node of the graph, and every module is found."""
    modules, products = reading.products.modules, list(_engine_products(reading))
    for layer in products:
        if not set(_nodes(layer)) & modules.keys():
            named = bool(layer.onnx_nodes)
            told = "ONNX nodes that are no products of the graph" if named else "no ONNX node"
            verdict = Verdict.REFUTED if named else Verdict.UNPROVEN
            places = reading.witness.places_of((layer,))
            return answered(verdict, f"{describe(layer)}, with {told}", places)
    missing = [name for name in _promised(promises) if not reading.modules[name].layers]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        reason = reading.modules[missing[0]].reason
        return answered(Verdict.UNPROVEN, f"{missing[0]} was not found{more}: {reason}")
    return answered(
        Verdict.PROVED,
        f"{len(products)} products of the engine, for {len(promises.linears)} linears and "
        f"{len(promises.attentions)} attentions of the encoder",
    )


def _no_float(promises: Promises, reading: EngineReading) -> Cell:
    """Each engine product that a quantized module takes part in."""
    quantized = {each.module for each in promises.linears if each.multiplies_int8}
    quantized |= {each.module for each in promises.attentions if each.quantized}
    if not quantized:
        stored = any(each.is_quantized for each in promises.linears)
        return not_claimed(f"the recipe quantizes {'weights alone' if stored else 'nothing'}")
    products = [
        layer
        for layer in _engine_products(reading)
        if quantized & {reading.products.modules.get(node) for node in _nodes(layer)}
    ]
    unclear = None
    for layer in products:
        answer = multiplies_int8(layer)
        if answer is False:
            places = reading.witness.places_of((layer,))
            return answered(Verdict.REFUTED, describe(layer), places)
        unclear = unclear or (layer if answer is None else None)
    if unclear is not None:
        places = reading.witness.places_of((unclear,))
        return answered(Verdict.UNPROVEN, f"its types do not decide: {describe(unclear)}", places)
    if missing := [name for name in sorted(quantized) if not reading.modules[name].layers]:
        return answered(Verdict.UNPROVEN, f"{missing[0]} was not found in the engine")
    linears = sum(not each.multiplies_int8 for each in promises.linears)
    attentions = sum(not each.quantized for each in promises.attentions)
    told = f"{len(products)} products, all INT8"
    if linears or attentions:
        told += f"; the recipe leaves {linears} linears and {attentions} attentions in float"
    return answered(Verdict.PROVED, told)


def _merged(promises: Promises, reading: EngineReading) -> Cell:
    for group in promises.merged:
        layers = [reading.modules[name].layers for name in group]
        names = ", ".join(group)
        if not all(layers):
            return answered(Verdict.UNPROVEN, f"not all of {names} were found in the engine")
        held = [{layer.line for layer in each} for each in layers]
        if any(each != held[0] for each in held):
            count = len(set().union(*held))
            places = reading.witness.places_of(tuple(layer for each in layers for layer in each))
            return answered(Verdict.REFUTED, f"{names} are {count} products", places)
    return answered(Verdict.PROVED, f"in all {len(promises.merged)} blocks")


def _engine_products(reading: EngineReading) -> Iterator[EngineLayer]:
    for layer in reading.witness.layers:
        if is_fused_attention(layer) or is_gemm(layer):
            yield layer


def _nodes(layer: EngineLayer) -> tuple[str, ...]:
    """A fused attention is named after nothing, and its metadata list both products."""
    return layer.onnx_nodes if is_fused_attention(layer) else layer.principal_nodes


def _promised(promises: Promises) -> list[str]:
    """Linears, and attentions that are quantized; in float they fuse in ways of their own."""
    quantized = (each.module for each in promises.attentions if each.quantized)
    return [*(each.module for each in promises.linears), *quantized]
