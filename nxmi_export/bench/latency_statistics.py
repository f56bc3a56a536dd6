"""Seconds of many runs in, percentiles and the speed against a baseline out."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

__all__ = ["CONFIDENCE", "Latency", "Speedup", "latency", "speedup"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Latency:
    """Percentiles of the seconds of one run."""

    runs: int
    p10: float  # what a run takes when nothing disturbs it
    p50: float
    p90: float
    p99: float
    mean: float

    @property
    def spread(self) -> float:
        """p50 / p10: 1 on an idle machine, more where other processes took part."""
        return self.p50 / self.p10


@dataclass(frozen=True)
class Speedup:
    """How many times faster than the baseline, in the same rounds."""

    median: float
    # Where the true median lies with `CONFIDENCE`; None for fewer rounds than can tell.
    low: float | None
    high: float | None


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles, interpolated between the runs next to them."""
    p10, p50, p90, p99 = (float(each) for each in np.percentile(seconds, (10, 50, 90, 99)))
    return Latency(len(seconds), p10, p50, p90, p99, statistics.fmean(seconds))


def speedup(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> Speedup:
    """Compare round by round, so that what disturbed both cancels.

    The interval is between two ordered ratios: below the k-th of n lies the true median with the
    probability that a fair coin shows heads fewer than k times in n, whatever the distribution.
    """
    ratios = sorted(
        statistics.median(one) / statistics.median(other)
        for one, other in zip(baseline, candidate, strict=True)
    )
    middle, count = statistics.median(ratios), len(ratios)
    tail = (1 - CONFIDENCE) / 2
    below = int(binom.ppf(tail, count, 0.5))
    if binom.cdf(below - 1, count, 0.5) > tail:
        below -= 1
    if below < 1:
        return Speedup(middle, None, None)
    return Speedup(middle, ratios[below - 1], ratios[count - below])
