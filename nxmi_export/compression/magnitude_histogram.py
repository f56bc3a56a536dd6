"""Activation values in, the magnitude that a quantizer should reach out, in fixed memory.

Bins are equal parts of 0…2^k, where 2^k is the first power of two above every magnitude seen. When
a larger value arrives, k grows and neighbouring bins merge exactly, so the counts depend neither on
the order of the values nor on how they were batched.
"""

import math

import torch
from torch import Tensor

from nxmi_export.recipe import Calibration

__all__ = ["MagnitudeHistogram"]

BINS = 1 << 16  # outliers take most of the range: 512 KiB of counts leave bins for the rest
AT_ONCE = 1 << 20  # values; what an `add` allocates does not grow with the tensor

# Of the least-squares search. The range is halved eight times at most: a step then still spans two
# bins, and within a bin values are not told apart.
OCTAVES, PER_OCTAVE, REFINEMENTS = 8, 16, 16


class MagnitudeHistogram:
    """Counts of |x| > 0 over every tensor added, and their exact maximum."""

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.empty = True  # until the first value, zero or not
        self.largest = 0.0  # NaN or infinite once such a value was added
        self.exponent: int | None = None  # k; None until a finite non-zero value was added

    def add(self, x: Tensor) -> None:
        """Count the magnitudes of `x`, of any shape and floating-point type."""
        for part in torch.split(x.detach().flatten(), AT_ONCE):
            self._add(part.float().abs())  # in bfloat16 the bins below would be rounded

    def reach(self, calibration: Calibration, high: int) -> float:
        """The magnitude that the code `high` should stand for.

        NaN or infinite if such a value was added; 0 if nothing but zeros was, NaN if nothing was.
        """
        if calibration.method == "percentile":
            return self.percentile(calibration.percent / 100)
        if calibration.method == "max" or not math.isfinite(self.largest) or self.exponent is None:
            return self.percentile(1.0)
        return self._least_squares(self.exponent, high)

    def percentile(self, share: float) -> float:
        """The magnitude that `share` (0…1) of the non-zero values do not exceed, to a bin's width.

        All of them: exactly the maximum. Not finite or 0 as `reach`.
        """
        if self.empty:
            return math.nan
        if not math.isfinite(self.largest) or self.exponent is None:
            return self.largest
        reached = self.counts.cumsum(0)
        needed = math.ceil(share * int(reached[-1]))
        index = int((reached < needed).sum())
        return min((index + 1) * 2.0**self.exponent / BINS, self.largest)

    def _add(self, magnitudes: Tensor) -> None:
        if math.isnan(self.largest):
            return  # for good: max() of Python would lose the NaN again
        self.empty = self.empty and not magnitudes.numel()
        magnitudes = magnitudes[magnitudes != 0]  # zero is exact under every scale
        if not len(magnitudes):
            return
        largest = float(magnitudes.max())
        self.largest = largest if math.isnan(largest) else max(largest, self.largest)
        if not math.isfinite(self.largest):
            return
        self._grow(math.frexp(largest)[1])
        assert self.exponent is not None
        # The width is a power of two, so this division is exact and so is the bin.
        index = (magnitudes / 2.0**self.exponent * BINS).to(torch.int64)
        self.counts += torch.bincount(index, minlength=BINS).cpu()

    def _grow(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent = exponent
        if exponent > self.exponent:
            merged = min(2 ** (exponent - self.exponent), BINS)
            counts = self.counts.reshape(-1, merged).sum(dim=1)
            self.counts = torch.zeros_like(self.counts)
            self.counts[: len(counts)] = counts
            self.exponent = exponent

    def _least_squares(self, exponent: int, high: int) -> float:
        """The reach with the least squared error of rounding and saturation, the middle of a bin
        standing for its values: a geometric grid, then a finer one around its best.
        """
        filled = self.counts.nonzero()[:, 0]
        middles = (filled.double() + 0.5) * (2.0**exponent / BINS)
        counts = self.counts[filled].double()

        def error(reach: float) -> float:
            step = reach / high
            codes = (middles / step).round_().clamp_(max=high)
            return float((codes.mul_(step).sub_(middles).square_()).dot(counts))

        coarse = [self.largest * 2 ** (-i / PER_OCTAVE) for i in range(OCTAVES * PER_OCTAVE)]
        best = min(coarse, key=error)
        around = range(1 - REFINEMENTS, REFINEMENTS)
        fine = [best * 2 ** (i / (PER_OCTAVE * REFINEMENTS)) for i in around]
        return min((best, *(reach for reach in fine if reach <= self.largest)), key=error)
