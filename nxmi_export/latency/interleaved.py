"""Things to time in, the seconds each takes when nothing disturbs it out.

Every one is timed once a round: side by side, what the machine does meanwhile (clocks, other
processes) meets all of them alike, and each finds the caches as the others left them, as in a
model.
"""

import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias, TypeVar

__all__ = ["OnRound", "Timer", "Timing", "Turn", "samples", "timings", "worst_spread"]

Timer: TypeAlias = Callable[[], float]
"""Runs once and returns the seconds it took."""

OnRound: TypeAlias = Callable[[int, int], None]
"""Hears how many rounds are done, and of how many."""

Key = TypeVar("Key", bound=Hashable)

WARM_UP = 3  # rounds that do not count: first runs allocate and compile


@dataclass(frozen=True)
class Turn:
    """How often one thing runs before the next one does."""

    untimed: int = 0  # runs that find the caches, and the processors, as the others left them
    timed: int = 1


@dataclass(frozen=True)
class Timing:
    """What many runs of one thing took."""

    # The time below which one run in ten stays. A run is slowed down by other processes, never
    # sped up, so on a busy machine the median is theirs; on an idle one the two are the same.
    seconds: float
    median: float  # seconds

    @property
    def spread(self) -> float:
        """median / seconds: 1 on an idle machine."""
        return self.median / self.seconds


def samples(
    timers: Mapping[Key, Timer],
    rounds: int,
    on_round: OnRound = lambda done, total: None,
    *,
    turn: Turn = Turn(),
    warm_up: int = WARM_UP,
    enough: Callable[[int], bool] = lambda done: False,
) -> dict[Key, list[list[float]]]:
    """What each timer says, round by round, each round a list of its timed runs.

    `enough` hears how many rounds are done and may end them before there are `rounds`.
    """
    for _ in range(warm_up):
        for timer in timers.values():
            timer()
    times: dict[Key, list[list[float]]] = {key: [] for key in timers}
    for done in range(rounds):
        if enough(done):
            break
        on_round(done, rounds)
        for key, timer in timers.items():
            for _ in range(turn.untimed):
                timer()
            times[key].append([timer() for _ in range(turn.timed)])
    on_round(rounds, rounds)
    return times


def timings(
    timers: Mapping[Key, Timer], rounds: int, on_round: OnRound = lambda done, total: None
) -> dict[Key, Timing]:
    """What each timer says over `rounds` rounds, two at least."""
    times = samples(timers, rounds, on_round)
    return {key: _timing(list(chain.from_iterable(each))) for key, each in times.items()}


def worst_spread(found: Iterable[Timing]) -> float:
    """The largest spread: above about 1.25, time again when the machine is idle."""
    return max(timing.spread for timing in found)


def _timing(seconds: list[float]) -> Timing:
    tenth = statistics.quantiles(seconds, n=10, method="inclusive")[0]
    return Timing(tenth, statistics.median(seconds))
