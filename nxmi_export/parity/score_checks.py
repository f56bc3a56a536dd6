"""What deployment costs in predictions and in score, held to a gate."""

import math
from collections.abc import Iterator, Sequence

from nxmi_export.glue import primary, score
from nxmi_export.parity.gate import Check, Gate
from nxmi_export.parity.ladder import RungResult, Stage
from nxmi_export.parity.result import ParityResult
from nxmi_export.parity.score_statistics import NotCompared
from nxmi_export.parity.statistics import Claim, Conclusion, FamilyMember

__all__ = ["drop_failures", "flip_checks", "non_inferiority", "without_ties"]

ROUNDING = 1e-9  # differences of scores that are equal on paper


def flip_checks(result: ParityResult, gate: Gate) -> Iterator[Check]:
    """Changed predictions of any cause; no condition where the gate sets them no limit."""
    if gate.max_flips is not None:
        failures = tuple(_flip_failures(result, gate.max_flips))
        yield Check("changed predictions", failures)


def _flip_failures(result: ParityResult, most: int) -> Iterator[str]:
    step = result.step(Stage.COMPRESSED, Stage.OPTIMIZED)
    if step is None or not step.comparison.comparable or not step.comparison.examples:
        yield "The predictions of ONNX optimized were not compared with compressed PyTorch's."
    elif len(step.comparison.changes) > most:
        comparison = step.comparison
        yield (
            f"{comparison.candidate} changed {len(comparison.changes)} of {comparison.examples} "
            f"predictions of {comparison.reference}, where {most} may; the first is "
            f"example {comparison.changes[0].index}."
        )


def drop_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    """The drop that was seen, as far as rounding ties do not explain it."""
    reference, candidate = map(result.rungs.get, (Stage.COMPRESSED, Stage.OPTIMIZED))
    if reference is None or candidate is None:
        yield "The score of ONNX optimized was not compared with that of compressed PyTorch."
        return
    step = result.step(Stage.COMPRESSED, Stage.OPTIMIZED)
    ties = step.explained if step else ()
    kept = without_ties(reference, candidate, ties)
    drops = (reference.primary - score for score in (candidate.primary, kept))
    if not any(drop <= gate.max_drop + ROUNDING for drop in drops):  # written so that NaN fails
        more = f"; without {len(ties)} explained changes to {kept:.4f}" if ties else ""
        yield f"The {_fall(reference, candidate)}{more}, where {gate.max_drop:.4f} is allowed."


def without_ties(reference: RungResult, candidate: RungResult, ties: Sequence[int]) -> float:
    """The candidate's primary score, had the examples `ties` the reference's predictions.

    NaN where one of the rungs has none.
    """
    if reference.predictions is None or candidate.predictions is None:
        return math.nan
    predictions = candidate.predictions.copy()
    predictions[list(ties)] = reference.predictions[list(ties)]
    task = candidate.dataset.task
    return primary(task, score(task, predictions, candidate.dataset.labels))


def non_inferiority(
    result: ParityResult,
    gate: Gate,
    member: FamilyMember | None,
    candidate: Stage = Stage.OPTIMIZED,
) -> Check:
    """The drop that is proved, or not ruled out; `member` is as in `verdict`."""
    who = "ONNX optimized" if candidate is Stage.OPTIMIZED else "OpenVINO"
    on = "" if candidate is Stage.OPTIMIZED else f" on {who}"
    name = f"score within {_points(gate.terms.margin)}{on}"
    step = result.step(Stage.COMPRESSED, candidate)
    if step is None or step.statistics is None:
        failure = f"The score of {who} was not held to the margin."
        return Check(name, (failure,))
    if isinstance(step.statistics, NotCompared):
        doubt = f"The score{on} was not held to the margin: {step.statistics.reason}."
        return _open_question(name, doubt, gate)
    alone = step.statistics
    if alone.terms != gate.terms:
        return Check(name, (f"The score{on} was held to {alone.terms}, not to {gate.terms}.",))
    member = member or FamilyMember(alone, alone.reasons)
    if member.conclusion is Conclusion.INFERIOR:
        fall = _fall(result.rungs[Stage.COMPRESSED], result.rungs[candidate])
        (reason,) = (each for each in member.reasons if each.claim is Claim.DROP)
        return Check(name, (f"The {fall}: {reason}.",))
    # That all of several dev sets pass is claimed only where each does, which needs no correction.
    if not alone.conclusion.passes:
        (reason,) = (each for each in alone.reasons if each.claim is Claim.NO_DROP)
        doubt = (
            f"A drop of the {alone.metric}{on} beyond {_points(gate.terms.margin)} is not ruled "
            f"out (p = {reason.p_value:.2g}). {alone.power}"
        )
        return _open_question(name, doubt, gate)
    return Check(name)


def _open_question(name: str, doubt: str, gate: Gate) -> Check:
    return Check(name, (doubt,)) if gate.strict else Check(name, undecided=doubt)


def _fall(reference: RungResult, candidate: RungResult) -> str:
    return (
        f"{reference.dataset.task.primary_metric} fell from {reference.primary:.4f} in "
        f"{reference.name} to {candidate.primary:.4f} in {candidate.name}"
    )


def _points(share: float) -> str:
    return f"{100 * share:.3g} points"
