"""Counted cells in, the bootstrap distribution of a score difference and its BCa limits out.

Examples are resampled in pairs: both models' predictions of one example stay together.
B. Efron (1987), Better bootstrap confidence intervals, JASA 82:171-185.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

from nxmi_export.errors import DataError
from nxmi_export.glue import Task
from nxmi_export.parity.statistics.pairs import Cells
from nxmi_export.parity.statistics.weighted_scores import weighted_differences

__all__ = ["Bootstrap", "bootstrap"]

FloatArray = NDArray[np.float64]
BLOCK = 1 << 18  # weights held at once: 2 MB, and a dozen such arrays while they are scored


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Sorted differences of the resamples, and how a limit is to be read from them."""

    replicates: FloatArray = field(repr=False)  # (resamples,), ascending
    bias: float  # z₀: how far the estimate is from the replicates' median, in standard deviations
    acceleration: float  # a: how fast the standard error changes with the difference

    @property
    def standard_error(self) -> float:
        """The deviation of the replicates; 0 where no prediction that counts has changed."""
        return float(np.std(self.replicates, ddof=1))

    def limits(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper limit; `confidence` is that of each limit alone."""
        low, high = (float(self._quantile(level)) for level in (1 - confidence, confidence))
        return low, high

    def p_above(self, delta: float) -> float:
        """The p-value of "at most `delta`": the level at which the lower limit is `delta`."""
        position = float(special.ndtri(self._share_below(delta))) - self.bias
        # The inverse of the adjustment in `_quantile`.
        adjusted = position / (1 + self.acceleration * position) - self.bias
        return max(float(special.ndtr(adjusted)), self._least)

    def p_below(self, delta: float) -> float:
        """The p-value of "at least `delta`"."""
        return max(1 - self.p_above(delta), self._least)

    @property
    def _least(self) -> float:
        return 1 / (len(self.replicates) + 1)  # what so many resamples can show at most

    def _share_below(self, delta: float) -> float:
        low = np.searchsorted(self.replicates, delta, side="left")
        high = np.searchsorted(self.replicates, delta, side="right")
        share = float(low + high) / 2 / len(self.replicates)
        return min(max(share, self._least), 1 - self._least)

    def _quantile(self, level: float) -> float:
        position = self.bias + float(special.ndtri(level))
        share = special.ndtr(self.bias + position / (1 - self.acceleration * position))
        return float(np.quantile(self.replicates, share))


def bootstrap(
    task: Task, cells: Cells, *, resamples: int, generator: np.random.Generator
) -> Bootstrap:
    """Resample the examples; memory is bounded however many there are.

    Drawing n examples with replacement is drawing the cells' counts from a multinomial.
    Raises DataError where a resample's correlation is not defined.
    """
    total = int(cells.counts.sum())
    shares = cells.counts / total
    replicates = np.concatenate(
        [
            weighted_differences(
                task, cells, generator.multinomial(total, shares, size=size).astype(np.float64)
            )
            for size in _blocks(resamples, len(shares))
        ]
    )
    undefined = int(np.count_nonzero(np.isnan(replicates)))
    if undefined:
        raise DataError(
            f"the bootstrap of {task.name}",
            expected="predictions and labels that vary in every resample",
            found=f"{undefined} of {resamples} resamples in which they are constant",
            remedy="compare over more examples",
        )
    replicates.sort()
    replicates.setflags(write=False)
    estimate = weighted_differences(task, cells, cells.counts[np.newaxis].astype(np.float64))[0]
    return Bootstrap(replicates, _bias(replicates, estimate), _acceleration(task, cells))


def _blocks(rows: int, width: int) -> Iterator[int]:
    """Sizes that add up to `rows`, each a block of memory at most."""
    size = max(1, BLOCK // width)
    for start in range(0, rows, size):
        yield min(size, rows - start)


def _bias(replicates: FloatArray, estimate: float) -> float:
    # Differences that are equal on paper count as equal, else their rounding decides the bias.
    low = np.searchsorted(replicates, estimate - 1e-12, side="left")
    high = np.searchsorted(replicates, estimate + 1e-12, side="right")
    share = float(low + high) / 2 / len(replicates)
    least = 1 / (len(replicates) + 1)
    return float(special.ndtri(min(max(share, least), 1 - least)))


def _acceleration(task: Task, cells: Cells) -> float:
    """A sixth of the skewness of the jackknife, examples of one cell being left out alike."""
    total = int(cells.counts.sum())
    if total == 1:
        return 0.0
    parts, start = [], 0
    for size in _blocks(len(cells.counts), len(cells.counts)):
        weights = np.repeat(cells.counts[np.newaxis].astype(np.float64), size, axis=0)
        weights[np.arange(size), start + np.arange(size)] -= 1
        parts.append(weighted_differences(task, cells, weights))
        start += size
    left_out = np.concatenate(parts)
    influence = np.average(left_out, weights=cells.counts) - left_out
    square = float(np.sum(cells.counts * influence**2))
    if not np.isfinite(square) or square < 1e-20:  # nothing changed, or one example decides all
        return 0.0
    return float(np.sum(cells.counts * influence**3) / (6 * square**1.5))
