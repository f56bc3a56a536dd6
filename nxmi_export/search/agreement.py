"""Predicted and measured divergences in, how well the first orders as the second does out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation over `configurations` with a complete score.

    None where it is not defined: fewer than three, or all alike.
    """

    configurations: int
    spearman: float | None


def agreement(predicted: Sequence[float], measured: Sequence[float]) -> Agreement:
    """Of two sequences of equal length."""
    count = len(measured)
    if count < 3 or len(set(predicted)) == 1 or len(set(measured)) == 1:
        return Agreement(count, None)
    found = float(spearmanr(predicted, measured).statistic)
    return Agreement(count, None if math.isnan(found) else found)
