"""A model and a load in, what many clients at once got out."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nxmi_export.bench.other_load import OtherLoad
from nxmi_export.runtime import TaskModel
from samples.serve_loop.load import Load
from samples.serve_loop.memory import Samples, memory_now

__all__ = ["Latencies", "serve"]

SAMPLES = 600  # of memory in a run, taken at equal pauses
REPORTS = 20  # lines of progress
WARM_UP = 0.1  # of the run


class Latencies:
    """How often each latency occurred, in bins of one per cent; its size does not grow."""

    SHORTEST, RATIO, BINS = 1e-5, 1.01, 1800  # seconds; up to ten minutes

    def __init__(self) -> None:
        self.counts = np.zeros(self.BINS, np.int64)

    def add(self, seconds: float) -> None:
        """Count one."""
        place = np.log(max(seconds, self.SHORTEST) / self.SHORTEST) / np.log(self.RATIO)
        self.counts[min(int(place), self.BINS - 1)] += 1

    def percentile(self, share: float) -> float:
        """Seconds that `share` of all stay within, to one per cent; NaN where there are none."""
        ends = np.cumsum(self.counts)
        if not ends[-1]:
            return float("nan")
        place = int(np.searchsorted(ends, share * ends[-1]))
        return float(self.SHORTEST * self.RATIO ** (place + 1))


@dataclass
class Tally:
    """What one client saw after the warm-up; errors and wrong answers from the beginning."""

    requests: int = 0
    texts: int = 0
    wrong: int = 0
    errors: int = 0
    first_error: str | None = None
    latencies: Latencies = field(default_factory=Latencies)


@dataclass(frozen=True)
class Clock:
    """When a run began, when it counts, and when it ends."""

    begin: float
    counted_from: float
    end: float

    @classmethod
    def start(cls, seconds: float) -> "Clock":
        """A run that begins now."""
        now = time.perf_counter()
        return cls(now, now + WARM_UP * seconds, now + seconds)


def serve(model: TaskModel, load: Load, *, clients: int, seconds: float) -> dict[str, Any]:
    """Run the clients for `seconds`, and say what they and the process's memory did."""
    loaded, other = memory_now(), OtherLoad()
    tallies = [Tally() for _ in range(clients)]
    clock = Clock.start(seconds)
    threads = [
        threading.Thread(target=_ask, args=(model, load, tally, clock, seed), daemon=True)
        for seed, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    samples = Samples()
    for count, now in enumerate(_ticks(clock, seconds / SAMPLES), start=1):
        resident = samples.add()
        if count % (SAMPLES // REPORTS) == 0:
            _say(now - clock.begin, tallies, resident)
    for thread in threads:
        thread.join()
    return {
        "clients": clients,
        "minutes": round(seconds / 60, 2),
        **_totals(tallies, clock.end - clock.counted_from),
        "memory": samples.facts(loaded, warm_up=WARM_UP * seconds),
        "processors others kept busy": _rounded(other.cores()),
    }


def _ask(model: TaskModel, load: Load, tally: Tally, clock: Clock, seed: int) -> None:
    random = np.random.default_rng(seed)
    first, then = load.warm_up(random), load.requests(random)
    while (begin := time.perf_counter()) < clock.end:
        request = next(first if begin < clock.counted_from else then)
        try:
            answer = model.predict(request.texts)
        except Exception as error:  # what a server would log before it goes on
            tally.errors += 1
            tally.first_error = tally.first_error or f"{type(error).__name__}: {error}"
            continue
        tally.wrong += request.answer is not None and answer != request.answer
        if begin >= clock.counted_from:
            tally.requests += 1
            tally.texts += len(request.texts)
            tally.latencies.add(time.perf_counter() - begin)


def _ticks(clock: Clock, pause: float) -> Iterator[float]:
    while (now := time.perf_counter()) < clock.end:
        yield now
        time.sleep(pause)


def _say(seconds: float, tallies: Sequence[Tally], mb: float) -> None:
    done, errors = (sum(getattr(each, name) for each in tallies) for name in ("requests", "errors"))
    print(
        f"{seconds:6.0f} s {done:9d} requests {errors:4d} errors {mb:8.1f} MB",
        file=sys.stderr,
        flush=True,
    )


def _totals(tallies: Sequence[Tally], seconds: float) -> dict[str, Any]:
    latencies = Latencies()
    latencies.counts = np.sum([each.latencies.counts for each in tallies], axis=0)
    requests = sum(each.requests for each in tallies)
    percentiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "longest": 1.0}
    return {
        "requests": requests,
        "errors": sum(each.errors for each in tallies),
        "first error": next((each.first_error for each in tallies if each.first_error), None),
        "wrong answers": sum(each.wrong for each in tallies),
        "requests a second": round(requests / seconds, 2),
        "texts a second": round(sum(each.texts for each in tallies) / seconds, 2),
        "latency ms": {
            name: round(1000 * latencies.percentile(share), 2)
            for name, share in percentiles.items()
        },
    }


def _rounded(cores: float | None) -> float | None:
    return None if cores is None else round(cores, 2)
