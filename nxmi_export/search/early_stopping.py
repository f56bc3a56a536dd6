"""Part of a candidate's outcomes in, whether the rest could still matter out.

Outcomes arrive in one random order, as a sample without replacement of a known population (the
examples of the slice), in which some examples may tend to come sooner, with known chances. Both
stops look after every chunk, as often as they like, and state one probability: that they ever stop
a candidate whose outcome on the whole slice would have been good enough.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from nxmi_export.glue import Task, primary, score
from nxmi_export.glue.dataset import LabelArray

__all__ = ["MeanStop", "MetricStop", "Outcomes", "Stop"]

# Shares of what may be bet at most. Which one is best depends on how the values scatter, and a bet
# of everything loses everything to a single 0.
_BETS = np.arange(1, 9) / 9
_SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a candidate did on one chunk of examples, in the random order."""

    examples: NDArray[np.int64]  # (chunk,) into the slice
    chances: NDArray[np.float64]  # (chunk,) of each to be the next one of those that were left
    divergences: NDArray[np.float64]  # (chunk,), none negative
    predictions: LabelArray  # (chunk,)


class Stop(Protocol):
    """A rule that is fed the outcomes of one candidate; it is made anew for every candidate."""

    def add(self, outcomes: Outcomes) -> bool:
        """Count one more chunk; True where the candidate need not be scored any further."""
        ...


class MeanStop:
    """Rejects that the mean divergence over the whole population is at most `threshold`.

    A bet against it (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
    betting", 2024, §5: sampling without replacement). With N values of mean at most t, of which
    x_1 … x_{i−1} have been seen, those left sum to at most

        r_i = N·t − x_1 − … − x_{i−1}

    and x_i / p_i, where p_i was the chance of this one of them to come next, has their sum as its
    expectation. So the wealth Π(1 + c·(x_i / (p_i·r_i) − 1)) is a supermartingale for every
    0 ≤ c < 1, positive because no x_i is negative; no upper bound is needed for this one side. So
    is the mean of the wealths of several c, which grows nearly as fast as that of the best one. By
    Ville's inequality it ever reaches 1/error with a probability of at most `error`, at however
    many looks.

    The less x_i / p_i scatters, the faster it grows: where examples on which any candidate would
    diverge come sooner in proportion, hardly at all (importance sampling).
    """

    def __init__(self, population: int, threshold: float, error: float) -> None:
        """`population` values ≥ 0, `threshold` ≥ 0, and 0 < `error` < 1."""
        # The slack absorbs the rounding of sums, or a population of this very mean could seem to
        # exceed it with its last value; it makes the bet a little too timid, never too bold.
        self._allowance = population * threshold * (1 + _SLACK)  # N·t, less what was seen
        self._log_wealths = np.full(len(_BETS), -math.log(len(_BETS)))
        self._enough = -math.log(error)
        self._rejected = False

    def add(self, outcomes: Outcomes) -> bool:
        """Bet on each value in turn; True from the first moment at which the wealth suffices."""
        pairs = zip(outcomes.divergences.tolist(), outcomes.chances.tolist(), strict=True)
        for value, chance in pairs:
            self._rejected = self._rejected or self._bet(value, chance)
        return self._rejected

    def _bet(self, value: float, chance: float) -> bool:
        if value > self._allowance:
            return True  # even if all others were 0
        if self._allowance > 0:
            ratio = value / (chance * self._allowance)
            self._log_wealths += np.log1p(_BETS * (ratio - 1))
        self._allowance -= value
        return float(np.logaddexp.reduce(self._log_wealths)) >= self._enough


class MetricStop:
    """Stops once the task's primary metric over the whole slice can only stay below `threshold`.

    For examples of equal chances. Of the N_k examples of class k that the slice has, n_k have been
    seen and c_k of those were predicted right; they are a random sample, so c_k is hypergeometric.
    The upper limit of how many of all N_k are predicted right is the largest number under which c_k
    or fewer are not too improbable. Accuracy, F1 and Matthews' correlation all rise with every
    right prediction, so the limits together give that of the metric. `error` is shared out over the
    classes, and over the looks as 1/(l·(l+1)), l = 1, 2, …, whose sum is 1 however many there are.

    A regression is never stopped.
    """

    def __init__(self, labels: LabelArray, task: Task, threshold: float, error: float) -> None:
        """`labels` of the whole slice; `threshold` on the metric's scale, and 0 < `error` < 1."""
        self._task, self._labels = task, labels
        self._threshold, self._error = threshold, error
        # Accuracy alone asks how many are right and not where, which one limit says best.
        of_classes = bool({"f1", "matthews"}.intersection(task.metrics))
        classes = range(len(task.labels)) if of_classes else ()
        everything = np.ones(len(labels), np.bool_)
        # A small slice may lack a class.
        self._strata = [labels == each for each in classes if each in labels] or [everything]
        self._seen = [0] * len(self._strata)
        self._right = [0] * len(self._strata)
        self._looks = 0

    def add(self, outcomes: Outcomes) -> bool:
        """Count the predictions; True where the limit of the metric is below the threshold."""
        if self._task.is_regression:
            return False
        right = outcomes.predictions == self._labels[outcomes.examples]
        for index, stratum in enumerate(self._strata):
            members = stratum[outcomes.examples]
            self._seen[index] += int(members.sum())
            self._right[index] += int((right & members).sum())
        self._looks += 1
        return self.upper_limit() < self._threshold

    def upper_limit(self) -> float:
        """The metric on the whole slice, at the limits of this look."""
        share = self._error / len(self._strata) / max(self._looks * (self._looks + 1), 1)
        predictions = self._labels.copy()
        for stratum, seen, right in zip(self._strata, self._seen, self._right, strict=True):
            members = np.flatnonzero(stratum)
            wrong = members[_most_right(len(members), seen, right, share) :]
            predictions[wrong] = (predictions[wrong] + 1) % len(self._task.labels)
        return primary(self._task, score(self._task, predictions, self._labels))


def _most_right(population: int, seen: int, right: int, error: float) -> int:
    """The largest number of right ones among `population` that the sample does not contradict."""
    possible = np.arange(right, population - (seen - right) + 1)
    probabilities = hypergeom.cdf(right, population, possible, seen)  # falls with the number
    return int(possible[probabilities >= error][-1])
