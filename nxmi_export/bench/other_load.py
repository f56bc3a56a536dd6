"""How much of this machine other processes use while something is timed."""

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["OtherLoad"]

_STAT = Path("/proc/stat")
_IDLE = (3, 4)  # the columns of idle time and of waiting for a device
_USER_AND_SYSTEM = 8  # later columns are parts of these
_TICKS = 100  # Linux tells times to programs in hundredths of a second


class OtherLoad:
    """From its making on, the processors that others kept busy, of those we may use.

    Linux only; elsewhere `cores()` is None.
    """

    def __init__(
        self,
        *,
        stat: Path = _STAT,
        cpus: frozenset[int] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        own_seconds: Callable[[], float] = lambda: sum(os.times()[:4]),
    ) -> None:
        self._stat, self._clock, self._own_seconds = stat, clock, own_seconds
        self._cpus = _usable() if cpus is None else cpus
        self._begin = self._now()

    def cores(self) -> float | None:
        """How many on average, 0 and more; None where nothing tells."""
        now = self._now()
        if now is None or self._begin is None:
            return None
        seconds, busy, own = (
            after - before for before, after in zip(self._begin, now, strict=True)
        )
        return max(0.0, busy - own) / seconds if seconds > 0 else 0.0

    def _now(self) -> tuple[float, float, float] | None:
        """Time, what our processors were busy for, and what of it was ours; all in seconds."""
        if not self._stat.is_file():
            return None
        ticks = 0
        for line in self._stat.read_text().splitlines():
            name, *columns = line.split()
            if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in self._cpus:
                times = [int(each) for each in columns[:_USER_AND_SYSTEM]]
                ticks += sum(each for at, each in enumerate(times) if at not in _IDLE)
        return self._clock(), ticks / _TICKS, self._own_seconds()


def _usable() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset()
