"""A dev split that was run and replayed in, its rungs compared two by two out."""

from collections.abc import Iterator, Mapping

from nxmi_export.parity import (
    Comparison,
    Explanation,
    Stage,
    Step,
    compare,
    explain_unobserved,
    score_statistics,
)
from nxmi_export.parity.statistics import Terms
from nxmi_export.workflow.parity.climb import Climbed
from nxmi_export.workflow.parity.replays import Replays

__all__ = ["probe_steps", "steps"]


def steps(climbed: Climbed, known: Mapping[Stage, Replays], terms: Terms) -> tuple[Step, ...]:
    """Each rung against compressed PyTorch, and those that the same file or kernels tell apart."""
    return (
        *_compression(climbed, terms),
        *_observed(climbed, known, terms),
        _kernels(climbed, known, terms),
        *_unobserved(climbed, known, terms),
        *_of_the_first(climbed),
    )


def probe_steps(climbed: Climbed, known: Mapping[Stage, Replays]) -> tuple[Step, ...]:
    """The same of probes, whose labels mean nothing: there are no statistics of them."""
    return (*_observed(climbed, known, None), *_of_the_first(climbed))


def _compression(climbed: Climbed, terms: Terms) -> Iterator[Step]:
    """Compression is meant to change the model, so there is nothing to explain."""
    if Stage.DENSE in climbed.rungs:
        yield _step(climbed, Stage.DENSE, Stage.COMPRESSED, terms)


def _observed(
    climbed: Climbed, known: Mapping[Stage, Replays], terms: Terms | None
) -> Iterator[Step]:
    for stage, replays in known.items():
        comparison = compare(climbed.rungs[Stage.COMPRESSED], climbed.rungs[stage])
        reasons = replays.of_changes(comparison)
        others = replays.of_others(comparison)
        yield _step(climbed, Stage.COMPRESSED, stage, terms, reasons, others)


def _kernels(climbed: Climbed, known: Mapping[Stage, Replays], terms: Terms) -> Step:
    """A change is explained where both rungs are, each from PyTorch's side."""
    comparison = compare(climbed.rungs[Stage.WRITTEN], climbed.rungs[Stage.OPTIMIZED])
    sides = known[Stage.WRITTEN], known[Stage.OPTIMIZED]
    reasons = tuple(_of_both(comparison, sides))
    return _step(climbed, Stage.WRITTEN, Stage.OPTIMIZED, terms, reasons)


def _of_both(comparison: Comparison, sides: tuple[Replays, ...]) -> Iterator[Explanation]:
    for change in comparison.changes:
        both = [side.found[change.index] for side in sides]
        refused = [each for each in both if not each.explained]
        yield refused[0] if refused else max(both, key=lambda each: each.differing_codes)


def _unobserved(climbed: Climbed, known: Mapping[Stage, Replays], terms: Terms) -> Iterator[Step]:
    """Neither shows its codes; what ONNX as written changes alike is explained by that."""
    written, ties = climbed.rungs[Stage.WRITTEN], tuple(known[Stage.WRITTEN].found.values())
    for stage in (Stage.OPENVINO, Stage.ENGINE):
        if stage in climbed.rungs:
            comparison = compare(climbed.rungs[Stage.COMPRESSED], climbed.rungs[stage])
            reasons = explain_unobserved(comparison, written, ties)
            yield _step(climbed, Stage.COMPRESSED, stage, terms, reasons)


def _of_the_first(climbed: Climbed) -> Iterator[Step]:
    """No statistics: two must be equal bit for bit, float16 is judged by what it changes.

    INT4 blocks hold the numbers of the file they were packed from.
    """
    for stage in (Stage.SHIFTED, Stage.FLOAT16):
        rung = climbed.rungs.get(stage)
        if climbed.written_first is not None and rung is not None:
            yield Step(Stage.WRITTEN, stage, compare(climbed.written_first, rung))
    packed, halved = climbed.rungs.get(Stage.INT4), climbed.rungs.get(Stage.FLOAT16)
    if packed is not None and halved is not None:
        yield Step(Stage.FLOAT16, Stage.INT4, compare(halved, packed))
    elif packed is not None and climbed.written_first is not None:
        yield Step(Stage.WRITTEN, Stage.INT4, compare(climbed.written_first, packed))


def _step(
    climbed: Climbed,
    before: Stage,
    after: Stage,
    terms: Terms | None,
    reasons: tuple[Explanation, ...] = (),
    others: tuple[Explanation, ...] = (),
) -> Step:
    one, other = climbed.rungs[before], climbed.rungs[after]
    statistics = None if terms is None else score_statistics(one, other, terms)
    return Step(before, after, compare(one, other), reasons, statistics, others)
