"""One account of an engine in, what it says about every linear and every attention out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    Int8Coverage,
    ModuleEvidence,
    Verdict,
    int8_coverage,
    module_sparsity,
)
from nxmi_export.backends.tensorrt_engine.int8_layers import (
    FLOATS,
    is_fused_attention,
    multiplies_int8,
)
from nxmi_export.certificate.claims import Answer, Cell, Claim, answered, not_claimed
from nxmi_export.certificate.engine import Witness
from nxmi_export.certificate.products import Products
from nxmi_export.certificate.promises import AttentionPromise, LinearPromise

__all__ = ["EngineReading", "attention_cells", "linear_cells"]

_RTX_OUTPUT = "TensorRT-RTX has no sparse kernels to write INT8 for; build with TensorRT"
_ALONE = "the recipe quantizes its weight alone, for a product of floats"
_GAINS_FROM = 256  # inputs and outputs; below it 2:4 is not expected to gain anything


@dataclass(frozen=True)
class EngineReading:
    """A witness and the graph its engine was built from."""

    witness: Witness
    products: Products
    linears: tuple[LinearPromise, ...]
    attentions: tuple[AttentionPromise, ...]

    @cached_property
    def coverage(self) -> Int8Coverage:
        """Every promised module looked up in the engine, whatever its scheme."""
        return int8_coverage(
            self.witness.layers,
            self.products.nodes,
            linears=[linear.module for linear in self.linears],
            attentions=[attention.module for attention in self.attentions],
            profiles=self.witness.profiles,
        )

    @cached_property
    def modules(self) -> Mapping[str, ModuleEvidence]:
        """The coverage by module name."""
        found = (*self.coverage.linears, *self.coverage.attentions)
        return {each.module: each for each in found}

    @cached_property
    def candidates(self) -> tuple[EngineLayer, ...] | None:
        """Engine layers with 2:4 weights; None where not all of them were found."""
        asked = int8_coverage(
            self.witness.layers,
            self.products.nodes,
            linears=self.products.two_of_four,
            attentions=[],
            profiles=self.witness.profiles,
        ).linears
        if not all(each.in_every_profile for each in asked):
            return None
        found = {layer.name: layer for each in asked for layer in each.layers}
        return tuple(found.values())


def linear_cells(
    linear: LinearPromise, reading: EngineReading | None, absent: str
) -> dict[Claim, Cell]:
    """INT8 in and out, sparse eligible and sparse kernel of one linear.

    `reading` is None where there is no engine, for the reason `absent`. Every claim that is made is
    refuted where the witness speaks of another engine.
    """
    cells = {
        Claim.INT8_IN: _int8_in(linear),
        Claim.INT8_OUT: _int8_out(linear),
        Claim.ELIGIBLE: _two_of_four(linear),
        Claim.SPARSE: _two_of_four(linear),
    }
    return _filled(cells, _of_linear(linear, reading) if reading else {}, reading, absent)


def attention_cells(
    attention: AttentionPromise, reading: EngineReading | None, absent: str
) -> dict[Claim, Cell]:
    """INT8 in and fused, of the two products of one attention; otherwise as `linear_cells`."""
    told = None if attention.quantized else not_claimed("the recipe leaves its products in float")
    cells = {Claim.INT8_IN: told, Claim.FUSED: told}
    return _filled(cells, _of_attention(attention, reading) if reading else {}, reading, absent)


def _filled(
    cells: Mapping[Claim, Cell | None],
    found: Mapping[Claim, Cell],
    reading: EngineReading | None,
    absent: str,
) -> dict[Claim, Cell]:
    """What is not claimed stays so; the rest is what was found, if this engine was looked at."""
    objection = reading.witness.objection if reading else None
    filled = {}
    for claim, cell in cells.items():
        if cell is not None:
            filled[claim] = cell
        elif reading is None:
            filled[claim] = answered(Verdict.UNPROVEN, absent)
        elif objection is not None:
            filled[claim] = answered(Verdict.REFUTED, objection)
        else:
            filled[claim] = reading.witness.vouched(found[claim])
    return filled


def _int8_in(linear: LinearPromise) -> Cell | None:
    if linear.weight_alone:
        return not_claimed(_ALONE)
    return None if linear.is_quantized else not_claimed(f"the scheme is {linear.scheme}")


def _int8_out(linear: LinearPromise) -> Cell | None:
    return None if linear.int8_output else not_claimed("its placement promises no INT8 output")


def _two_of_four(linear: LinearPromise) -> Cell | None:
    if linear.weight_alone:
        return not_claimed(f"{_ALONE}, and kernels that skip zeros unpack no codes")
    if linear.is_two_of_four:
        return None
    return not_claimed(f"the scheme is {linear.scheme}, and sparse kernels need 2:4")


def _of_linear(linear: LinearPromise, reading: EngineReading) -> dict[Claim, Cell]:
    found, witness = reading.modules[linear.module], reading.witness
    places = witness.places_of(found.layers)
    cells = {
        Claim.INT8_IN: answered(found.verdict, found.reason, places),
        Claim.INT8_OUT: _output(reading, found),
    }
    if witness.is_rtx or not found.layers:
        verdicts = Verdict.UNPROVEN, Verdict.UNPROVEN
        reason = witness.sparsity.reason if witness.is_rtx else found.reason
        reasons = reason, reason
    else:
        share = module_sparsity(found.layers, witness.sparsity, reading.candidates)
        verdicts, reasons = (
            (share.eligible, share.chosen),
            (share.eligible_reason, share.chosen_reason),
        )
    if witness.forbids_sparse_kernels:
        verdicts = verdicts[0], Verdict.REFUTED
        reasons = reasons[0], "the engine was built with --sparsity disable"
    if linear.module not in reading.products.two_of_four:
        verdicts = Verdict.REFUTED, verdicts[1]
        reasons = "the numbers stored in its graph are not 2:4", reasons[1]
    eligible = answered(verdicts[0], f"{reasons[0]}{_shape_note(linear)}", places)
    cells[Claim.ELIGIBLE] = _throughout(found, eligible)
    cells[Claim.SPARSE] = _throughout(found, answered(verdicts[1], reasons[1], places))
    return cells


def _throughout(found: ModuleEvidence, cell: Cell) -> Cell:
    """What some profiles show is not proved of the others; what one refutes is refuted."""
    if found.in_every_profile or cell.answer is not Answer.PROVED:
        return cell
    told = f"not every profile shows its kernel ({found.reason}); of those that do: {cell.why}"
    return answered(Verdict.UNPROVEN, told, cell.evidence)


def _output(reading: EngineReading, found: ModuleEvidence) -> Cell:
    places = reading.witness.places_of(found.layers)
    if not found.layers:
        return answered(Verdict.UNPROVEN, found.reason)
    if reading.witness.is_rtx:
        return answered(Verdict.UNPROVEN, f"{_RTX_OUTPUT} ({found.reason})", places)
    types = {output.datatype for layer in found.layers for output in layer.outputs}
    if types & FLOATS and types - {"Int8"} <= FLOATS:
        return answered(Verdict.REFUTED, found.reason, places)
    # A sparse INT8 kernel reads INT8 too, so a product that may not is none.
    whole = found.writes_int8 and found.verdict is Verdict.PROVED
    return answered(Verdict.PROVED if whole else Verdict.UNPROVEN, found.reason, places)


def _shape_note(linear: LinearPromise) -> str:
    """What the shape says about the gain; it decides nothing."""
    shape = f"{linear.inputs} inputs and {linear.outputs} outputs"
    small = min(linear.inputs, linear.outputs) < _GAINS_FROM
    return f"; {shape}{', where no gain is expected' if small else ''}"


def _of_attention(attention: AttentionPromise, reading: EngineReading) -> dict[Claim, Cell]:
    """The coverage judges both at once; apart, the products may still multiply INT8."""
    found = reading.modules[attention.module]
    places = reading.witness.places_of(found.layers)
    if not found.layers:
        unknown = answered(Verdict.UNPROVEN, found.reason)
        return {Claim.INT8_IN: unknown, Claim.FUSED: unknown}
    if all(is_fused_attention(layer) for layer in found.layers):
        int8 = found.verdict
        fused = Verdict.PROVED if found.in_every_profile else Verdict.UNPROVEN
    else:
        int8, fused = _int8_apart(found), Verdict.REFUTED
    return {
        Claim.INT8_IN: answered(int8, found.reason, places),
        Claim.FUSED: answered(fused, found.reason, places),
    }


def _int8_apart(found: ModuleEvidence) -> Verdict:
    answers = {multiplies_int8(layer) for layer in found.layers}
    if False in answers:
        return Verdict.REFUTED
    whole = found.in_every_profile and answers == {True}
    return Verdict.PROVED if whole else Verdict.UNPROVEN
