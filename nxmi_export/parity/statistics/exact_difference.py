"""Paired counts in, an exact test and exact limits for the difference of two accuracies out.

Two rungs of one ladder differ in a handful of examples, where normal approximations of any kind
reject too often: with no loss seen, Tango's lower limit is −2.7 / total and the true one
−3.0 / total. So the test is exact: the probability of data at least as favourable as those seen
(by Tango's statistic) is added up, and the largest over the unknown rate of change is the p-value.
That rate is searched within its own confidence set and the set's error added, which keeps the test
valid (Berger and Boos, 1994, JASA 89:1012-1016) and the search short.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from nxmi_export.parity.statistics.score_interval import score_limits, score_statistic

__all__ = ["exact_limits", "p_above"]

FloatArray = NDArray[np.float64]
SET_ERROR = 1e-6  # that the rate of change lies outside its set; far below any level in use
RATES = 65  # points of the search; the p-value is flat between them, see the test of its size
# Standard deviations, and successes more, beyond which a binomial's probability is below 1e-10.
TAIL, FEW = 7.0, 25
AGREE = 1e-9  # statistics that are equal on paper
_BISECTIONS = 14  # of the bracket around Tango's limit; 1e-4 of its width


def p_above(gains: int, losses: int, total: int, delta: float) -> float:
    """The p-value of "the difference is at most `delta`" against "it is larger"; −1 < delta < 1.

    With nothing changed and delta −m it is (1 − m)^total: the rule of three.
    """
    seen = float(score_statistic(gains, losses, total, delta))
    rates = _rates(gains + losses, total, abs(delta))
    if not len(rates):
        # So little changed that a difference of delta is itself ruled out. That refutes "at most"
        # a drop, and is no evidence against "at most" a gain.
        return SET_ERROR if delta < 0 else 1.0
    worst = float(_favourable(total, delta, rates, seen).max())
    return min(1.0, worst + SET_ERROR)


def exact_limits(gains: int, losses: int, total: int, confidence: float) -> tuple[float, float]:
    """The differences that `p_above` and its mirror image do not reject.

    `confidence` is that of each limit alone.
    """
    approximate = score_limits(gains, losses, total, confidence)
    width = approximate[1] - approximate[0]
    limit = partial(_lower, total=total, error=1 - confidence, width=width)
    return (
        limit(gains, losses, start=approximate[0]),
        -limit(losses, gains, start=-approximate[1]),
    )


def _lower(
    gains: int, losses: int, *, total: int, error: float, width: float, start: float
) -> float:
    low, high = start, start
    while low > -1 and p_above(gains, losses, total, low) > error:
        low = max(-1.0, low - width / 4)
    estimate = (gains - losses) / total
    while high < estimate and p_above(gains, losses, total, high) <= error:
        high = min(estimate, high + width / 4)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if p_above(gains, losses, total, middle) <= error:
            low = middle
        else:
            high = middle
    return low  # of the two ends, the one that is rejected: the limit errs on the wide side


def _rates(changed: int, total: int, least: float) -> FloatArray:
    """Rates of discordant pairs that the data allow, and that a difference of `least` needs."""
    # Clopper and Pearson (1934).
    low = special.betaincinv(changed, total - changed + 1, SET_ERROR / 2) if changed else 0.0
    high = 1.0
    if changed < total:
        high = special.betaincinv(changed + 1, total - changed, 1 - SET_ERROR / 2)
    low = max(float(low), least)
    if low > high:
        return np.empty(0)
    # Denser where changes are few, which is where the p-value bends.
    return low + (high - low) * np.linspace(0, 1, RATES) ** 2


def _favourable(total: int, delta: float, rates: FloatArray, seen: float) -> FloatArray:
    """P(statistic ≥ seen) for each rate of discordant pairs whose difference is `delta`."""
    p_loss = np.maximum(0.0, (rates - delta) / 2)[:, np.newaxis]
    p_gain = np.maximum(0.0, (rates + delta) / 2)[:, np.newaxis]
    losses = _likely(total, float(p_loss.min()), float(p_loss.max()))
    needed = _fewest_gains(losses, total, delta, seen)
    # Given the losses, the gains are binomial among the rest.
    share = np.minimum(1.0, p_gain / np.maximum(1 - p_loss, np.finfo(np.float64).tiny))
    tail = _binomial_tail(needed, total - losses, share)
    return np.asarray(np.sum(_binomial(losses, total, p_loss) * tail, axis=1))


def _likely(total: int, lowest: float, highest: float) -> NDArray[np.int64]:
    """The numbers of successes that are not out of the question for these probabilities."""
    reach = [TAIL * np.sqrt(total * p * (1 - p)) + FEW for p in (lowest, highest)]
    first, last = total * lowest - reach[0], total * highest + reach[1]
    return np.arange(max(0, int(first)), min(total, int(last)) + 1)


def _fewest_gains(losses: NDArray[np.int64], total: int, delta: float, seen: float) -> FloatArray:
    """For each number of losses the fewest gains with statistic ≥ seen; more than fit: none do."""
    low, high = np.zeros(len(losses)), (total - losses + 1).astype(np.float64)
    while np.any(low < high):  # the statistic rises with the gains
        middle = np.floor((low + high) / 2)
        enough = score_statistic(middle, losses, total, delta) >= seen - AGREE
        enough |= middle > total - losses
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        low = np.minimum(low, high)
    return high


def _binomial(successes: NDArray[np.int64], trials: int, probability: FloatArray) -> FloatArray:
    """The probabilities (probabilities, successes)."""
    logarithm = (
        special.gammaln(trials + 1)
        - special.gammaln(successes + 1)
        - special.gammaln(trials - successes + 1)
        + special.xlogy(successes, probability)
        + special.xlog1py(trials - successes, -probability)
    )
    return np.asarray(np.exp(logarithm))


def _binomial_tail(
    fewest: FloatArray, trials: NDArray[np.int64], probability: FloatArray
) -> FloatArray:
    """P(X ≥ fewest) of Binomial(trials, probability), (probabilities, trials)."""
    possible = (fewest > 0) & (fewest <= trials)
    k = np.where(possible, fewest, 1.0)
    beyond = np.where(possible, trials - k + 1, 1.0)
    tail = special.betainc(k, beyond, probability)
    return np.where(possible, tail, np.where(fewest <= 0, 1.0, 0.0))
