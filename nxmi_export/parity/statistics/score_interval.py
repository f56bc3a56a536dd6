"""Paired counts in, Tango's score statistic for the difference of two proportions out.

T. Tango (1998), Equivalence test and confidence interval for the difference in proportions for the
paired-sample design, Statistics in Medicine 17:891-908.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["score_limits", "score_statistic"]

FloatArray = NDArray[np.float64]
_BISECTIONS = 60  # halvings of an interval at most 2 wide: the last bit of a float


def score_statistic(gains: Any, losses: Any, total: int, delta: float) -> FloatArray:
    """How many standard errors (gains − losses) / total lies above `delta`.

    The standard error is that of the most likely probabilities whose difference is `delta`, so that
    it does not vanish where nothing changed. Numbers or arrays of one shape; 0 where both the
    excess and the error are 0 (nothing changed, delta 0). At delta 0 its square is McNemar's χ².
    """
    gains, losses = np.asarray(gains, np.float64), np.asarray(losses, np.float64)
    # The restricted estimate of P(loss): the larger root of a q² + b q + c.
    a = 2.0 * total
    b = -gains - losses + (2 * total - gains + losses) * delta
    c = -losses * delta * (1 - delta)
    q = (np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a)
    variance = total * np.maximum(2 * q + delta * (1 - delta), 0)
    excess = gains - losses - total * delta
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = excess / np.sqrt(variance)
    return np.where(excess == 0, 0.0, statistic)


def score_limits(gains: int, losses: int, total: int, confidence: float) -> tuple[float, float]:
    """The differences whose score test does not reject; `confidence` is that of each limit."""
    bound = NormalDist().inv_cdf(confidence)
    return (
        _lower(gains, losses, total, bound),
        -_lower(losses, gains, total, bound),
    )


def _lower(gains: int, losses: int, total: int, bound: float) -> float:
    low, high = -1.0, (gains - losses) / total
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if score_statistic(gains, losses, total, middle) > bound:
            low = middle
        else:
            high = middle
    return low
