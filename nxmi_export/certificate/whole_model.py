"""One account of an engine in, what it says about the encoder as a whole out."""

from nxmi_export.backends.tensorrt_engine import Verdict, engine_mapping, merge_evidence
from nxmi_export.backends.tensorrt_engine.int8_layers import (
    describe,
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
            cells[claim] = reading.witness.vouched(judge(promises, reading))
    return cells


def _mapping(promises: Promises, reading: EngineReading) -> Cell:
    """Every product of the engine goes back to a node of the graph, and every module is found."""
    nodes, profiles = reading.products.nodes, reading.witness.profiles
    module_of, promised = nodes.module_of, _promised(promises)
    mapping = engine_mapping(reading.witness.layers, nodes, profiles=profiles, required=promised)
    if mapping.unmapped:
        worst = min(mapping.unmapped, key=lambda each: each.verdict is not Verdict.REFUTED)
        places = reading.witness.places_of((worst.layer,))
        return answered(worst.verdict, f"{describe(worst.layer)}, with {worst.reason}", places)
    lost = {module_of[node] for node in mapping.missing}
    if missing := [name for name in promised if name in lost or name not in module_of.values()]:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        reason = reading.modules[missing[0]].reason
        return answered(Verdict.UNPROVEN, f"{missing[0]} was not found{more}: {reason}")
    if not mapping.is_complete:
        return answered(Verdict.UNPROVEN, f"{reading.witness.name} lists no product")
    return answered(
        Verdict.PROVED,
        f"{mapping.products} products of the engine, for {len(promises.linears)} linears and "
        f"{len(promises.attentions)} attentions of the encoder",
    )


def _no_float(promises: Promises, reading: EngineReading) -> Cell:
    """Each engine product that a quantized module takes part in."""
    quantized = {each.module for each in promises.linears if each.multiplies_int8}
    quantized |= {each.module for each in promises.attentions if each.quantized}
    if not quantized:
        stored = any(each.is_quantized for each in promises.linears)
        return not_claimed(f"the recipe quantizes {'weights alone' if stored else 'nothing'}")
    nodes = reading.products.nodes
    wanted = {node for node, module in nodes.module_of.items() if module in quantized}
    products = [
        product
        for product in nodes.found_in(reading.witness.layers)
        if wanted & {*product.nodes, *product.candidates}
    ]
    unclear = None
    for product in products:
        layer, answer = product.layer, multiplies_int8(product.layer)
        if answer is False and product.nodes:
            places = reading.witness.places_of((layer,))
            return answered(Verdict.REFUTED, describe(layer), places)
        unclear = unclear or (None if answer else layer)
    if unclear is not None:
        places = reading.witness.places_of((unclear,))
        return answered(Verdict.UNPROVEN, f"it is not decided: {describe(unclear)}", places)
    found = reading.modules
    if missing := [name for name in sorted(quantized) if not found[name].in_every_profile]:
        told = f"{missing[0]} was not found everywhere in the engine: {found[missing[0]].reason}"
        return answered(Verdict.UNPROVEN, told)
    linears = sum(not each.multiplies_int8 for each in promises.linears)
    attentions = sum(not each.quantized for each in promises.attentions)
    told = f"{len(products)} products, all INT8"
    if linears or attentions:
        told += f"; the recipe leaves {linears} linears and {attentions} attentions in float"
    return answered(Verdict.PROVED, told)


def _merged(promises: Promises, reading: EngineReading) -> Cell:
    for group in promises.merged:
        names = ", ".join(group)
        runs = [reading.products.nodes.of_module(name) for name in group]
        if len({len(nodes) for nodes in runs}) > 1 or not runs[0]:
            return answered(Verdict.UNPROVEN, f"not all of {names} were found in the graph")
        # Several where a block with shared weights runs repeatedly.
        for evidence in merge_evidence(
            reading.witness.layers,
            zip(*runs, strict=True),
            reading.products.nodes,
            profiles=reading.witness.profiles,
        ):
            if evidence.verdict is not Verdict.PROVED:
                places = reading.witness.places_of(evidence.layers)
                return answered(evidence.verdict, f"{names}: {evidence.reason}", places)
    return answered(Verdict.PROVED, f"in all {len(promises.merged)} blocks")


def _promised(promises: Promises) -> list[str]:
    """Linears, and attentions that are quantized; in float they fuse in ways of their own."""
    quantized = (each.module for each in promises.attentions if each.quantized)
    return [*(each.module for each in promises.linears), *quantized]
