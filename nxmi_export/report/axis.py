"""Values in, the round ticks of an axis that spans them out, and where a value lies on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

__all__ = ["Axis", "round_step"]

_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """Ticks from the lowest to the highest end; at least two, all positive where logarithmic."""

    ticks: tuple[float, ...]
    logarithmic: bool = False

    @classmethod
    def over(
        cls, values: Sequence[float], *, logarithmic: bool = False, with_zero: bool = False
    ) -> Self:
        """The axis of these values, one or more; `with_zero` is for linear axes."""
        ticks = _log_ticks(values) if logarithmic else _ticks(values, with_zero)
        return cls(tuple(ticks), logarithmic)

    def share(self, value: float) -> float:
        """How far along the axis a value lies, 0 to 1."""
        low, high = self.ticks[0], self.ticks[-1]
        if self.logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def label(self, tick: float) -> str:
        """A tick with the digits that tell it from its neighbours."""
        if self.logarithmic:
            return f"{tick:g}"
        digits = max(0, -math.floor(math.log10(self.ticks[1] - self.ticks[0]) + 1e-9))
        return f"{tick + 0.0:.{digits}f}"  # + 0.0: no "-0"


def round_step(raw: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def _ticks(values: Sequence[float], with_zero: bool) -> list[float]:
    """Round numbers that span the values."""
    low, high = min(values), max(values)
    low = min(low, 0.0) if with_zero else low
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        margin = abs(high) / 10 or 1.0
        low, high = low - margin, high + margin
    step = round_step((high - low) / _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10 … of the decades that the values touch; powers of ten alone where many."""
    low, high = math.log10(min(values)), math.log10(max(values))
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 2)
    candidates = [step * 10.0**decade for decade in decades for step in steps]
    below = [each for each in candidates if each <= min(values) * (1 + 1e-9)]
    above = [each for each in candidates if each >= max(values) and each > below[-1]]
    return [each for each in candidates if below[-1] <= each <= above[0]]
