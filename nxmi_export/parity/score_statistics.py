"""Two rungs in, what their scores prove about each other out, or why they prove nothing."""

from dataclasses import dataclass

from nxmi_export.errors import DataError
from nxmi_export.parity.ladder import RungResult
from nxmi_export.parity.statistics import Pairs, ScoreComparison, Terms, compare_scores

__all__ = ["NotCompared", "score_statistics"]


@dataclass(frozen=True)
class NotCompared:
    """Two rungs whose primary scores cannot be compared."""

    reason: str  # without a full stop


def score_statistics(
    reference: RungResult, candidate: RungResult, terms: Terms
) -> ScoreComparison | NotCompared:
    """Test whether `candidate` keeps the primary score of `reference`, over the same examples.

    The first few examples of a dev set may be of one class, over which F1 and Matthews' correlation
    mean nothing; that, and rungs without predictions, are results here and not errors.
    """
    for rung in (reference, candidate):
        if rung.predictions is None:
            return NotCompared(f"{rung.name} has no predictions, its logits not being finite")
    assert reference.predictions is not None
    assert candidate.predictions is not None
    dataset = reference.dataset
    try:
        pairs = Pairs(dataset.task, dataset.labels, reference.predictions, candidate.predictions)
        return compare_scores(pairs, terms)
    except DataError as error:
        return NotCompared(str(error))
