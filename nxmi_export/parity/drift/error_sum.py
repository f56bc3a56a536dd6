"""Pairs of arrays in, one after the other, the statistics of their difference out.

Memory does not grow with the data. Mean and variance of the error follow Chan, Golub and LeVeque
(1979), "Updating formulae and a pairwise algorithm for computing sample variances", whose pairwise
rule joins batches as well as the shards of several processes.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ErrorSum", "LargestError"]

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class LargestError:
    """Where two rungs lie furthest apart."""

    error: float  # |candidate − reference|; infinite where one alone is not finite
    example: int  # into the dataset
    position: tuple[int, ...]  # in the example's value: (token, channel), (head, query, key)
    reference: float
    candidate: float


class ErrorSum:
    """Error statistics of one point, in float64.

    A pair of which one is not finite is counted and left out of the sums; two values that are the
    same infinity, or both NaN, are one value and differ in nothing.
    """

    def __init__(self) -> None:
        self.values = 0  # pairs, those that are not finite included
        self.non_finite = 0
        self.mean = 0.0
        self.largest: LargestError | None = None
        self._finite = 0
        self._squares = 0.0  # Σ (error − mean)²
        self._reference = 0.0  # Σ reference²
        self._candidate = 0.0  # Σ candidate²
        self._product = 0.0  # Σ reference·candidate

    def add(
        self,
        reference: NDArray[Any],
        candidate: NDArray[Any],
        real: NDArray[np.bool_],
        examples: NDArray[np.int64],
    ) -> None:
        """Take in one batch; the three arrays have one shape, whose first axis is `examples`."""
        a, b = (array[real].astype(np.float64) for array in (reference, candidate))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            errors = np.where(same, 0.0, b - a)
        finite = np.isfinite(a) & np.isfinite(b)
        self.values += a.size
        self.non_finite += int(np.count_nonzero(~finite & ~same))
        self._note_largest(np.where(np.isnan(errors), np.inf, np.abs(errors)), a, b, real, examples)
        batch = ErrorSum()
        batch._sum(errors[finite], a[finite], b[finite])
        self._join(batch)

    def merge(self, other: "ErrorSum") -> None:
        """Take in what another process saw of the same point."""
        self.values += other.values
        self.non_finite += other.non_finite
        if other.largest is not None and _further(other.largest, self.largest):
            self.largest = other.largest
        self._join(other)

    @property
    def rms(self) -> float:
        """√mean error²; NaN where nothing finite was compared."""
        if not self._finite:
            return math.nan
        return math.sqrt(self._squares / self._finite + self.mean**2)

    @property
    def relative_rms(self) -> float:
        """The error's root mean square over the reference's; 0 for two zeros."""
        if not self._finite:
            return math.nan
        reference = math.sqrt(self._reference / self._finite)
        return self.rms / reference if reference else (math.inf if self.rms else 0.0)

    @property
    def cosine(self) -> float:
        """Of the angle between the two sides, over everything seen; 1 for two zeros."""
        if not self._finite:
            return math.nan
        lengths = math.sqrt(self._reference) * math.sqrt(self._candidate)
        if lengths:
            return min(1.0, max(-1.0, self._product / lengths))
        return 1.0 if self._reference == self._candidate else 0.0

    def _sum(self, errors: Float64Array, a: Float64Array, b: Float64Array) -> None:
        self._finite = errors.size
        if errors.size:
            self.mean = float(errors.mean())
            self._squares = float(np.square(errors - self.mean).sum())
            self._reference, self._candidate = float(a @ a), float(b @ b)
            self._product = float(a @ b)

    def _join(self, other: "ErrorSum") -> None:
        total = self._finite + other._finite
        if not other._finite:
            return
        apart = other.mean - self.mean
        self._squares += other._squares + apart**2 * self._finite * other._finite / total
        self.mean += apart * other._finite / total
        self._finite = total
        self._reference += other._reference
        self._candidate += other._candidate
        self._product += other._product

    def _note_largest(
        self,
        errors: Float64Array,
        a: Float64Array,
        b: Float64Array,
        real: NDArray[np.bool_],
        examples: NDArray[np.int64],
    ) -> None:
        if not errors.size:
            return
        most = errors.max()
        if self.largest is not None and most < self.largest.error:
            return
        flat = np.flatnonzero(real)
        ties = np.flatnonzero(errors == most)
        rows = flat[ties] // max(real[0].size, 1)
        at = int(ties[int(examples[rows].argmin())])  # of one example the first position
        row, *place = np.unravel_index(int(flat[at]), real.shape)
        found = LargestError(
            error=float(errors[at]),
            example=int(examples[row]),
            position=tuple(int(i) for i in place),
            reference=float(a[at]),
            candidate=float(b[at]),
        )
        if _further(found, self.largest):
            self.largest = found


def _further(one: LargestError, other: LargestError | None) -> bool:
    """Of equal errors the one first in the dataset, so that batching decides nothing."""
    if other is None or one.error != other.error:
        return other is None or one.error > other.error
    return (one.example, one.position) < (other.example, other.position)
