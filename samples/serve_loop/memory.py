"""Samples of resident memory in, what it came to and how fast it grew out."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Slope", "memory_facts", "resident_mb", "slope_of"]

BLOCKS = 20  # that the slope is fitted through
TOLERATED = 0.01  # growth over a run, of the memory at its beginning


@dataclass(frozen=True)
class Slope:
    """Of resident memory over time."""

    mb_per_hour: float
    standard_error: float

    def is_growth(self, hours: float, mb: float) -> bool:
        """Whether memory of `mb` grew in `hours`, by more than chance and by enough to matter."""
        beyond_chance = self.mb_per_hour > 2 * self.standard_error
        return bool(beyond_chance and self.mb_per_hour * hours > TOLERATED * mb)


def resident_mb() -> float:
    """Of this process; Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_facts(seconds: NDArray[np.float64], mb: NDArray[np.float64]) -> dict[str, Any]:
    """Of the samples `mb` that were taken at `seconds`, all after the warm-up."""
    slope = slope_of(seconds, mb)
    blocks = np.array_split(np.arange(len(mb)), min(BLOCKS, len(mb)))
    return {
        "warm MB": round(float(mb[0]), 1),
        "last MB": round(float(mb[-1]), 1),
        "largest MB": round(float(mb.max()), 1),
        "slope MB per hour": round(slope.mb_per_hour, 2),
        "standard error": round(slope.standard_error, 2),
        "grew": slope.is_growth((seconds[-1] - seconds[0]) / 3600, float(mb[0])),
        "over time": [
            [round(float(seconds[block].mean())), round(float(mb[block].mean()), 1)]
            for block in blocks
        ],
    }


def slope_of(seconds: NDArray[np.float64], mb: NDArray[np.float64]) -> Slope:
    """The line of least squares through the means of `BLOCKS` blocks of samples."""
    blocks = np.array_split(np.arange(len(mb)), min(BLOCKS, len(mb)))
    x = np.array([seconds[block].mean() for block in blocks]) / 3600
    y = np.array([mb[block].mean() for block in blocks])
    away = x - x.mean()
    slope = float(away @ (y - y.mean()) / (away @ away))
    rest = y - y.mean() - slope * away
    error = float(np.sqrt(rest @ rest / (len(x) - 2) / (away @ away)))
    return Slope(slope, error)
