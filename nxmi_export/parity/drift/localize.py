"""A model, its ONNX file and examples in, the first layer beyond rounding and its cause out."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers.models.mobilebert.modeling_mobilebert import NoNorm

from nxmi_export.encoding import Batch, EncodedDataset
from nxmi_export.errors import UsageError
from nxmi_export.parity.drift.attention import attention_finding
from nxmi_export.parity.drift.cause import (
    Attribution,
    Cause,
    PaddingEvidence,
    TieEvidence,
    cause_of_mismatch,
)
from nxmi_export.parity.drift.excess import Excess
from nxmi_export.parity.drift.forced import ForcedReplay
from nxmi_export.parity.drift.plain import plain
from nxmi_export.parity.drift.point import Kind
from nxmi_export.parity.layer_weights import Mismatch
from nxmi_export.parity.weights import weight_parity
from passes.provenance import describe, module_of

__all__ = ["Localization", "localize"]

SCHEMA = "nxmi-export/localization/1"
_FLOAT16 = 2.0**13  # its unit roundoff over float32's: 2⁻¹¹ and 2⁻²⁴
_NUMERICS = {Kind.ATTENTION: Cause.SOFTMAX, Kind.NORM: Cause.LAYER_NORM}


@dataclass(frozen=True)
class Localization:
    """What forced replay and the stored numbers say about one file."""

    examples: int
    first: Excess | None  # the first point that rounding does not explain
    excesses: tuple[Excess, ...]  # the worst of every point with an error, in order of execution
    mismatches: tuple[Mismatch, ...]  # every stored number that differs
    attribution: Attribution | None  # None: the two sides agree in every code and stored number

    @property
    def explained(self) -> bool:
        """Whether rounding explains everything that was seen."""
        return self.first is None and not self.mismatches

    def as_json(self) -> dict[str, Any]:
        """Plain data under a schema; a number that is NaN or infinite becomes null."""
        evidence = None if self.attribution is None else type(self.attribution.evidence).__name__
        facts = {"schema": SCHEMA, "explained": self.explained, **asdict(self)}
        if self.attribution is not None:
            facts["attribution"]["kind_of_evidence"] = evidence
        result: dict[str, Any] = plain(facts)
        return result


def localize(
    model: nn.Module,
    path: Path,
    data: EncodedDataset,
    *,
    batch_size: int,
    order: NDArray[np.int64] | None = None,
    threads: int | None = None,
    ignored: Collection[str] = (),
    float16: bool = False,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Localization:
    """Replay the examples `order` (default: all, by length) and attribute what deviates.

    Stored numbers are compared first: where they differ at the first deviating layer, or anywhere
    while nothing deviates, they are the cause. A file that lacks a layer or quantizer, or has one
    too many, cannot be replayed; that is then the cause. `ignored` are kinds of mismatch that are
    none here, as "storage" in a graph whose weights were not folded yet. With `float16`, floats may
    be stored and computed in it, whose unit roundoff is 2⁻¹¹. Memory is one batch.
    Raises ArtefactError for a file of another model, UsageError without examples.
    """
    order = data.by_length() if order is None else order
    if not len(order):
        raise UsageError(
            f"localizing what differs in {path}",
            expected="examples",
            found="none",
            remedy="give at least one",
        )
    found = weight_parity(model, path, float16=float16).mismatches
    coarser = _FLOAT16 if float16 else 1.0
    mismatches = tuple(each for each in found if each.what not in ignored)
    unpaired = next((m for m in mismatches if m.what in ("quantizer", "layer")), None)
    if unpaired is not None:
        return Localization(0, None, (), mismatches, _stored(unpaired))
    done = 0
    with ForcedReplay(model, path, threads=threads) as replay:
        for batch in data.batches(batch_size, order=order):
            replay.add(batch)
            done += len(batch.indices)
            on_batch(done, len(order))
        first = replay.first_beyond(coarser)
        worst = sorted(replay.seen.worst.values(), key=lambda each: replay.order[each.point])
        attribution = _attribute(first, mismatches)
        if first is not None and attribution is None:
            together = _together(order, batch_size, first.example)
            attention = _from_attention(first, data, together, replay)
            if attention is None or attention.cause is Cause.PADDING:
                with ForcedReplay(model, path, threads=threads) as alone:
                    attribution = _from_padding(first, data, together, alone, coarser)
            attribution = attribution or attention or _from_numerics(model, first, replay)
    if attribution is None and replay.seen.first_tie is not None:
        example, difference = replay.seen.first_tie
        seen = replay.seen
        attribution = _from_ties(TieEvidence(example, difference, seen.ties, seen.codes))
    return Localization(done, first, tuple(worst), mismatches, attribution)


def _attribute(first: Excess | None, mismatches: tuple[Mismatch, ...]) -> Attribution | None:
    """The stored number at fault, if it belongs to the first deviating module or none deviates."""
    if first is None:
        return _stored(mismatches[0]) if mismatches else None
    there = (each for each in mismatches if each.module == first.point.module)
    found = next(there, None)
    return None if found is None else _stored(found)


def _stored(mismatch: Mismatch) -> Attribution:
    return Attribution(cause_of_mismatch(mismatch), mismatch.module, mismatch, f"{mismatch}.")


def _together(order: NDArray[np.int64], batch_size: int, example: int) -> NDArray[np.int64]:
    """The batch that an example was in."""
    start = int(np.flatnonzero(order == example)[0]) // batch_size * batch_size
    return order[start : start + batch_size]


def _from_attention(
    first: Excess, data: EncodedDataset, together: NDArray[np.int64], replay: ForcedReplay
) -> Attribution | None:
    """What the probabilities themselves show, where these are what deviates first."""
    if first.point.kind is not Kind.ATTENTION:
        return None
    batch = data.batch(together)
    row = int(np.flatnonzero(batch.indices == first.example)[0])
    before, after = (side[row] for side in replay.both_sides(batch, first.point))
    real = batch.feeds["attention_mask"][row].astype(bool)
    found = attention_finding(before, after, real, first.explained)
    reason = f"{_told(first)}; {found.reason}."
    return Attribution(found.cause, first.point.module, first, reason)


def _from_padding(
    first: Excess,
    data: EncodedDataset,
    together: NDArray[np.int64],
    alone: ForcedReplay,
    coarser: float,
) -> Attribution | None:
    """Padding, where the example deviates in its batch and does not when it runs alone."""
    tokens, padded = int(data.lengths[first.example]), int(data.lengths[together].max())
    if tokens == padded:
        return None
    index = np.array([first.example])
    alone.add(Batch(index, data.padded(index, None)))
    worst = alone.seen.worst.get(first.point)
    times = 0.0 if worst is None else worst.times
    if times > coarser:
        return None
    evidence = PaddingEvidence(first, tokens, padded, times)
    return Attribution(
        Cause.PADDING,
        first.point.module,
        evidence,
        f"{first.point} of example {first.example} is {first.times:.3g} times what rounding "
        f"explains when its {tokens} tokens are padded to {padded}, and {times:.3g} times "
        "without padding.",
    )


def _from_numerics(model: nn.Module, first: Excess, replay: ForcedReplay) -> Attribution:
    cause = _NUMERICS.get(first.point.kind, Cause.OPERATOR)
    maker, absent = replay.maker(first.point), replay.absent_before(first.point)
    reader = model.get_submodule(first.point.module)
    if first.point.kind is Kind.INPUT and isinstance(reader, nn.LayerNorm | NoNorm):
        cause = Cause.SUM  # of a block and what passes by it, or of embeddings
    told = _told(first)
    told += f", made by {describe(maker)}" if maker is not None else ""
    if absent:
        told += f"; the graph shows nothing of {', '.join(map(str, absent))} before it"
    made_by = "" if maker is None else module_of(maker)
    return Attribution(cause, first.point.module, first, f"{told}.", made_by, absent)


def _told(first: Excess) -> str:
    if first.average:
        return (
            f"{first.point} of example {first.example} lies {first.error:.2g} of its magnitude "
            f"away on average, where summation order accounts for {first.explained:.2g}; its "
            "stored numbers are right"
        )
    return (
        f"{first.point} at {list(first.position)} of example {first.example} is "
        f"{first.candidate:.6g} and not {first.reference:.6g}, {first.error:.2g} away where "
        f"summation order accounts for {first.explained:.2g}; its stored numbers are right"
    )


def _from_ties(evidence: TieEvidence) -> Attribution:
    return Attribution(
        Cause.ROUNDING_TIE,
        evidence.difference.module,
        evidence,
        f"From equal inputs {evidence.ties} of {evidence.codes} codes differ, all at rounding "
        f"ties; the first, in example {evidence.example}: {evidence.difference}.",
    )
