"""Contenders, and shapes of batches or texts, in, what each takes for each of them out.

On each of these all take turns, round by round, so that what the machine does meanwhile meets them
alike. A turn begins with a run that does not count: it finds the processors still busy with
the threads of the one before, and the caches full of its weights.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeAlias

import numpy as np

from nxmi_export.backends import Feeds, Outputs, Runner
from nxmi_export.bench.batches import batch_for
from nxmi_export.bench.contender import Contender, NotRun, RunsOnGpu
from nxmi_export.bench.latency_statistics import Speedup, latency, speedup
from nxmi_export.bench.other_load import OtherLoad
from nxmi_export.bench.result import Measured, WorkloadResult
from nxmi_export.bench.texts import Texts
from nxmi_export.errors import UsageError
from nxmi_export.latency import Workload
from nxmi_export.latency.interleaved import Timer, Turn, samples

__all__ = ["BenchSettings", "OnProgress", "measure"]

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and its total."""

TURN = Turn(untimed=1, timed=3)
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class BenchSettings:
    """How long to measure, and against what."""

    baseline: str  # a contender's key
    vocabulary: int  # words of the model
    rounds: int = 40  # of one shape, each with a turn of every contender
    seconds: float = 60.0  # after which a shape gets no further round
    seed: int = 0
    least_rounds: int = LEAST_ROUNDS  # however little time they may take
    # Of shapes with another than `TURN`; one without untimed runs has no round to warm up either.
    turns: Mapping[Workload, Turn] = field(default_factory=dict)

    def turn_of(self, workload: Workload | Texts) -> Turn:
        """How often a contender runs before the next one does."""
        return self.turns.get(workload, TURN) if isinstance(workload, Workload) else TURN


def measure(
    contenders: Sequence[Contender],
    workloads: Sequence[Workload | Texts],
    settings: BenchSettings,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[WorkloadResult, ...]:
    """Every contender on every workload; what cannot run says so in its place.

    Raises UsageError where no contender has the baseline's key.
    """
    keys = [each.key for each in contenders]
    if settings.baseline not in keys:
        raise UsageError(
            f"baseline {settings.baseline!r}",
            expected=f"one of {', '.join(keys)}",
            found="an unknown one",
            remedy="name one of them",
        )
    with ExitStack() as stack:
        opened: dict[str, Runner | NotRun] = {}
        for done, each in enumerate(contenders):
            on_progress(f"opening {each.key}", done, len(contenders))
            opened[each.key] = _open(each, stack)
        on_progress("opened", len(contenders), len(contenders))
        comparison = _Comparison(opened, contenders, settings, on_progress, clock)
        return tuple(comparison.on(workload) for workload in workloads)


def _open(contender: Contender, stack: ExitStack) -> Runner | NotRun:
    try:
        found = contender.open()
        return found if isinstance(found, NotRun) else stack.enter_context(found)
    except contender.refusals as refusal:
        return NotRun(str(refusal))


@dataclass(frozen=True)
class _Ready:
    """A contender that ran one workload."""

    timers: Mapping[bool, Timer]  # by whether it is the GPU's time
    answers: list[Outputs]  # of each batch


@dataclass(frozen=True)
class _Comparison:
    opened: Mapping[str, Runner | NotRun]
    contenders: Sequence[Contender]
    settings: BenchSettings
    on_progress: OnProgress
    clock: Callable[[], float]

    def on(self, workload: Workload | Texts) -> WorkloadResult:
        """Everything on one of them."""
        absent: dict[str, NotRun] = {}
        timers: dict[tuple[str, bool], Timer] = {}  # by key, and whether it is the GPU's time
        answers: dict[str, list[Outputs]] = {}
        for each in self.contenders:
            made = self._ready(each, workload)
            if isinstance(made, NotRun):
                absent[each.key] = made
            else:
                timers |= {(each.key, on_gpu): timer for on_gpu, timer in made.timers.items()}
                answers[each.key] = made.answers
        load, begin, limit = OtherLoad(), self.clock(), self.settings.seconds
        least, turn = self.settings.least_rounds, self.settings.turn_of(workload)
        found = samples(
            timers,
            self.settings.rounds,
            lambda done, total: self.on_progress(str(workload), done, total),
            turn=turn,
            warm_up=min(1, turn.untimed),
            enough=lambda done: done >= least and self.clock() - begin > limit,
        )
        return WorkloadResult(
            workload,
            rounds=max((len(each) for each in found.values()), default=0),
            other_cores=load.cores(),
            results={
                each.key: absent.get(each.key)
                or replace(
                    _measured(each.key, self.settings.baseline, found),
                    from_exact=_from_exact(each, answers),
                )
                for each in self.contenders
            },
        )

    def _ready(self, contender: Contender, workload: Workload | Texts) -> _Ready | NotRun:
        """What times it; it has run once, so that it can run this."""
        runner = self.opened[contender.key]
        if isinstance(runner, NotRun):
            return runner
        try:
            batches = self._batches(workload, runner.input_names)
            answers = [runner.run(feeds) for feeds in batches]
            timers = {False: _call_timer(runner, batches, self.clock)}
            if isinstance(runner, RunsOnGpu) and isinstance(workload, Workload):
                timers[True] = runner.gpu_timer(batches[0])
        except contender.shape_refusals as refusal:
            return NotRun(str(refusal))
        return _Ready(timers, answers)

    def _batches(self, workload: Workload | Texts, names: Sequence[str]) -> list[Feeds]:
        if isinstance(workload, Texts):
            return workload.feeds(names)
        rng = np.random.default_rng(self.settings.seed)  # the same words for all
        return [batch_for(workload, names, vocabulary=self.settings.vocabulary, rng=rng)]


def _call_timer(runner: Runner, batches: Sequence[Feeds], clock: Callable[[], float]) -> Timer:
    def run() -> float:
        begin = clock()
        for feeds in batches:
            runner.run(feeds)
        return clock() - begin

    return run


def _measured(
    key: str, baseline: str, found: Mapping[tuple[str, bool], list[list[float]]]
) -> Measured:
    call, gpu = found[key, False], found.get((key, True))
    return Measured(
        call=latency(list(chain.from_iterable(call))),
        gpu=None if gpu is None else latency(list(chain.from_iterable(gpu))),
        speedup=_speedup(found.get((baseline, False)), call),
        gpu_speedup=_speedup(found.get((baseline, True)), gpu),
        round_seconds=tuple(map(statistics.median, call)),
    )


def _from_exact(contender: Contender, answers: Mapping[str, list[Outputs]]) -> float | None:
    """The largest distance of an output on the batches that are timed; NaN where one has it."""
    if contender.exact is None or contender.exact not in answers:
        return None
    pairs = zip(answers[contender.exact], answers[contender.key], strict=True)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is the answer
        gaps = [np.abs(exact[name] - own[name]).max() for exact, own in pairs for name in exact]
    return float(np.max(gaps))


def _speedup(
    baseline: list[list[float]] | None, candidate: list[list[float]] | None
) -> Speedup | None:
    if baseline is None or candidate is None:
        return None
    return speedup(baseline, candidate)
