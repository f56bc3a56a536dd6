"""Samples of a process's memory in, what it came to and whether it grows out.

Growth is judged by anonymous memory. Resident memory also counts pages of the mapped model, which
come in as new words are looked up, end where the file does, and are dropped where room is short.
"""

import time
from array import array
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from nxmi_export.errors import CapabilityMissing
from nxmi_export.process_memory import ProcessMemory, process_memory

__all__ = ["Growth", "Samples", "Slope", "memory_now", "slope_of"]

BLOCKS = 20  # that the slope is fitted through: neighbouring samples are not independent
CONFIDENCE = 0.95
SETTLED = 0.5  # of a run, after which the slope counts
TOLERATED = 0.01  # of the memory, in ten minutes
_MEGA, _TEN_MINUTES = 1e6, 600.0


class Growth(StrEnum):
    """What the interval of the slope says."""

    NONE = "no growth"  # all of it lies below what is tolerated
    SHOWN = "growth"  # all of it lies above
    UNDECIDED = "undecided"  # serve longer


@dataclass(frozen=True)
class Slope:
    """MB in ten minutes, and where the true slope lies with `CONFIDENCE`."""

    value: float
    low: float
    high: float

    def verdict(self, mb: float) -> Growth:
        """Against `TOLERATED` of memory of `mb`."""
        limit = TOLERATED * mb
        if self.high < limit:
            return Growth.NONE
        return Growth.SHOWN if self.low > limit else Growth.UNDECIDED


class Samples:
    """Anonymous and resident MB by the seconds since the run began; 24 bytes a sample."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._seconds, self._anonymous, self._resident = array("d"), array("d"), array("d")

    def add(self) -> float:
        """Take one, and say how many MB are resident."""
        found = memory_now()
        self._seconds.append(time.perf_counter() - self._begin)
        self._anonymous.append(found.anonymous / _MEGA)
        self._resident.append(found.resident / _MEGA)
        return self._resident[-1]

    def facts(self, loaded: ProcessMemory, *, warm_up: float) -> dict[str, Any]:
        """What they came to; the first `warm_up` seconds are the warm-up's."""
        seconds, anonymous = np.array(self._seconds), np.array(self._anonymous)
        resident = np.array(self._resident)
        warm = int(np.searchsorted(seconds[:-1], warm_up))
        late = seconds >= SETTLED * seconds[-1]
        slope = slope_of(seconds[late], anonymous[late])
        return {
            "anonymous MB": _stages(loaded.anonymous / _MEGA, anonymous, warm),
            "mapped MB": _stages(loaded.mapped / _MEGA, resident - anonymous, warm),
            "resident MB": _stages(loaded.resident / _MEGA, resident, warm),
            "anonymous MB in ten minutes": {
                "slope": round(slope.value, 2),
                "low": round(slope.low, 2),
                "high": round(slope.high, 2),
                "tolerated": round(TOLERATED * float(anonymous[late][0]), 2),
                "over the last seconds": round(float(seconds[-1] - seconds[late][0]), 1),
            },
            "verdict": slope.verdict(float(anonymous[late][0])),
            "over time": [
                [round(float(seconds[block].mean())), round(float(anonymous[block].mean()), 1)]
                for block in _blocks(len(seconds))
            ],
        }


def memory_now() -> ProcessMemory:
    """Of this process; raises CapabilityMissing where the system does not tell it."""
    found = process_memory()
    if found is None:
        raise CapabilityMissing(
            "the memory of this process",
            expected="a system that tells it as Linux does in /proc/self/status",
            found="another",
            remedy="serve on Linux",
        )
    return found


def slope_of(seconds: NDArray[np.float64], mb: NDArray[np.float64]) -> Slope:
    """The line of least squares through the means of blocks of samples, with Student's interval.

    Fewer than three blocks leave it open on both sides.
    """
    blocks = _blocks(len(mb))
    x = np.array([seconds[block].mean() for block in blocks]) / _TEN_MINUTES
    y = np.array([mb[block].mean() for block in blocks])
    away, freedom = x - x.mean(), len(x) - 2
    if freedom < 1:
        return Slope(0.0, -np.inf, np.inf)
    slope = float(away @ (y - y.mean()) / (away @ away))
    rest = y - y.mean() - slope * away
    error = float(np.sqrt(rest @ rest / freedom / (away @ away)))
    half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Slope(slope, slope - half, slope + half)


def _blocks(samples: int) -> list[NDArray[np.int64]]:
    return np.array_split(np.arange(samples), min(BLOCKS, samples))


def _stages(loaded: float, mb: NDArray[np.float64], warm: int) -> dict[str, float]:
    """When the model was loaded, after the warm-up, at the end, and the most."""
    stages = {"loaded": loaded, "warm": mb[warm], "last": mb[-1], "largest": mb.max()}
    return {name: round(float(each), 1) for name, each in stages.items()}
