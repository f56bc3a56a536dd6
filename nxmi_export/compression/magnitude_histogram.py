"""Activation values in, the INT8 scale that fits them best out, in fixed memory.

Bins are equal parts of 0…2^k, where 2^k is the first power of two above every magnitude seen. When
a larger value arrives, k grows and neighbouring bins merge exactly, so the counts depend neither on
the order of the values nor on how they were batched.
"""

import math

import torch
from torch import Tensor

__all__ = ["MagnitudeHistogram"]

BINS = 4096
CANDIDATES = 100  # clipping points tried, evenly spaced up to the largest magnitude


class MagnitudeHistogram:
    """Counts of |x| > 0 over every tensor added, and their exact maximum."""

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.largest = 0.0  # NaN or infinite once such a value was added
        self.exponent: int | None = None  # k; None until a finite non-zero value was added

    def add(self, x: Tensor) -> None:
        """Count the magnitudes of `x`, of any shape."""
        if math.isnan(self.largest):
            return  # for good: max() of Python would lose the NaN again
        magnitudes = x.detach().abs().flatten()
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
        self.counts += torch.bincount(index, minlength=BINS)

    def least_error_scale(self, high: int) -> float:
        """The scale with the least squared quantization error, for codes up to `high`.

        NaN or infinite if such a value was added; 0 if nothing but zeros was.
        """
        if not math.isfinite(self.largest) or self.exponent is None:
            return self.largest
        centres = (torch.arange(BINS, dtype=torch.float64) + 0.5) * (2.0**self.exponent / BINS)
        shares = torch.arange(1, CANDIDATES + 1, dtype=torch.float64) / CANDIDATES
        scales = self.largest * shares / high
        codes = torch.round(centres / scales[:, None]).clamp(max=high)
        errors = ((codes * scales[:, None] - centres) ** 2 * self.counts).sum(dim=1)
        return float(scales[torch.argmin(errors)])

    def _grow(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent = exponent
        if exponent > self.exponent:
            merged = min(2 ** (exponent - self.exponent), BINS)
            counts = self.counts.reshape(-1, merged).sum(dim=1)
            self.counts = torch.zeros_like(self.counts)
            self.counts[: len(counts)] = counts
            self.exponent = exponent
