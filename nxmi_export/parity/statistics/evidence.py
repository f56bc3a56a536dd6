"""Paired predictions in, limits and p-values of the score difference out, by the task's method.

* Accuracy alone: exact, from the two counts of examples that one model alone has right.
* Another metric of a classification: BCa bootstrap, never narrower than `sparse_changes` allows.
* A regression: BCa bootstrap, never narrower than the share of examples that a fault may strike
  unseen; where every prediction is equal there is nothing to resample, and that share remains.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nxmi_export.parity.statistics.bootstrap import bootstrap
from nxmi_export.parity.statistics.conclusion import Claim
from nxmi_export.parity.statistics.exact_difference import exact_limits, p_above
from nxmi_export.parity.statistics.pairs import Pairs
from nxmi_export.parity.statistics.power import exact_floor
from nxmi_export.parity.statistics.sparse_changes import sparse_changes, without_changes
from nxmi_export.parity.statistics.terms import Terms

__all__ = ["Evidence", "evidence_of"]


@dataclass(frozen=True)
class Evidence:
    """What the data say about candidate − reference."""

    method: str
    lower: float
    upper: float
    standard_error: float  # of accuracy, that without a difference
    p_values: Mapping[Claim, float]
    floor: float  # the smallest margin that so many examples certify if nothing changes


def evidence_of(pairs: Pairs, terms: Terms) -> Evidence:
    """Choose the method by the task's metrics and the data, and apply it."""
    if pairs.task.metrics == ("accuracy",):
        return _of_accuracy(pairs, terms)
    if not pairs.task.is_regression:
        return _of_classes(pairs, terms)
    return _of_scores(pairs, terms) if pairs.changed else _of_equal_scores(pairs, terms)


def _of_accuracy(pairs: Pairs, terms: Terms) -> Evidence:
    gains, losses, total = pairs.gains, pairs.losses, len(pairs)
    lower, upper = exact_limits(gains, losses, total, terms.confidence)
    return Evidence(
        "exact unconditional test of paired proportions",
        lower,
        upper,
        float(np.sqrt(gains + losses)) / total,
        {
            Claim.NO_DROP: p_above(gains, losses, total, -terms.margin),
            Claim.NO_GAIN: p_above(losses, gains, total, -terms.margin),
            Claim.DROP: p_above(losses, gains, total, terms.margin),
        },
        exact_floor(total, terms.confidence),
    )


def _of_classes(pairs: Pairs, terms: Terms) -> Evidence:
    # A stream each, so that none depends on how many numbers another drew.
    streams = np.random.default_rng(terms.seed).spawn(3)
    task, cells, count, margin = pairs.task, pairs.cells, terms.resamples, terms.margin
    resampled = bootstrap(task, cells, resamples=count, generator=streams[0])
    sparse = sparse_changes(task, cells, draws=count, generator=streams[1])
    unchanged = sparse_changes(task, without_changes(cells), draws=count, generator=streams[2])
    lowers, uppers = zip(
        *(each.limits(terms.confidence) for each in (resampled, sparse)), strict=True
    )
    both = (resampled, sparse)
    return Evidence(
        "paired BCa bootstrap, bounded by a Dirichlet draw where few predictions changed",
        min(lowers),
        max(uppers),
        resampled.standard_error,
        {
            Claim.NO_DROP: max(each.p_above(-margin) for each in both),
            Claim.NO_GAIN: max(each.p_below(margin) for each in both),
            Claim.DROP: max(each.p_below(-margin) for each in both),
        },
        -unchanged.limits(terms.confidence)[0],
    )


def _of_scores(pairs: Pairs, terms: Terms) -> Evidence:
    generator = np.random.default_rng(terms.seed)
    resampled = bootstrap(pairs.task, pairs.cells, resamples=terms.resamples, generator=generator)
    lower, upper = resampled.limits(terms.confidence)
    # Resamples of a few nearly equal scores never differ. That is no evidence about examples of
    # another kind, of which none may be among so few: they would come on top of what was seen.
    seen, margin = pairs.difference, terms.margin
    floor = exact_floor(len(pairs), terms.confidence)
    return Evidence(
        "paired BCa bootstrap, bounded by a fault in a share of examples that none of these hit",
        min(lower, seen - floor),
        max(upper, seen + floor),
        resampled.standard_error,
        {
            Claim.NO_DROP: max(resampled.p_above(-margin), _unseen(len(pairs), seen + margin)),
            Claim.NO_GAIN: max(resampled.p_below(margin), _unseen(len(pairs), margin - seen)),
            Claim.DROP: max(resampled.p_below(-margin), _unseen(len(pairs), -margin - seen)),
        },
        floor,
    )


def _of_equal_scores(pairs: Pairs, terms: Terms) -> Evidence:
    floor = exact_floor(len(pairs), terms.confidence)
    unseen = _unseen(len(pairs), terms.margin)
    return Evidence(
        "every prediction is equal; p-values are for a fault in a share of the examples as large "
        "as the margin",
        -floor,
        floor,
        0.0,
        {Claim.NO_DROP: unseen, Claim.NO_GAIN: unseen, Claim.DROP: 1.0},
        floor,
    )


def _unseen(count: int, share: float) -> float:
    """How probable it is that none of `count` examples is of a kind that `share` of all are of."""
    return float(1 - min(max(share, 0.0), 1.0)) ** count
