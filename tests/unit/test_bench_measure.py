"""The comparison itself, with runners that only count, on a clock that only they move."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from nxmi_export.backends import Feeds, Outputs
from nxmi_export.bench import (
    BenchSettings,
    Contender,
    Measured,
    NotRun,
    Texts,
    batch_for,
    measure,
    parse_workloads,
)
from nxmi_export.bench.measure import LEAST_ROUNDS, TURN
from nxmi_export.bench.other_load import OtherLoad
from nxmi_export.errors import CapabilityMissing, ShapeError, UsageError
from nxmi_export.latency import Workload
from nxmi_export.latency.interleaved import Turn

ONE = (Workload(2, 8),)
NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """A runner that takes `seconds` of the clock for a call and notes every one."""

    input_names = NAMES

    def __init__(self, name: str, seconds: float, clock: Clock, calls: list[str]) -> None:
        self.name, self._seconds, self._clock, self._calls = name, seconds, clock, calls

    def run(self, feeds: Feeds) -> Outputs:
        self._calls.append(self.name)
        self._clock.now += self._seconds
        return {"logits": np.zeros((len(feeds["input_ids"]), 2), np.float32)}


class OnGpu(Counting):
    """One whose GPU alone takes half of that."""

    def gpu_timer(self, feeds: Feeds) -> Callable[[], float]:
        def run() -> float:
            self._calls.append(f"{self.name} gpu")
            return self._seconds / 2

        return run


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def calls() -> list[str]:
    return []


def contender(runner: Counting, **more: object) -> Contender:
    @contextmanager
    def opened() -> Iterator[Counting]:
        yield runner

    return Contender(runner.name, f"the {runner.name}", opened, **more)  # type: ignore[arg-type]


def settings(baseline: str = "a", rounds: int = 5, seconds: float = 1e9) -> BenchSettings:
    return BenchSettings(baseline, vocabulary=30, rounds=rounds, seconds=seconds)


def test_contenders_take_turns_that_begin_with_a_run_that_does_not_count(
    clock: Clock, calls: list[str]
) -> None:
    runners = [Counting("a", 4.0, clock, calls), Counting("b", 1.0, clock, calls)]
    (found,) = measure(list(map(contender, runners)), ONE, settings(rounds=2), clock=clock)
    turn = TURN.untimed + TURN.timed
    opening, warm_up = ["a", "b"], ["a", "b"]
    assert calls == [*opening, *warm_up, *(["a"] * turn + ["b"] * turn) * 2]
    assert (found.rounds, found.results["b"].call.runs) == (2, 2 * TURN.timed)


def test_times_and_speed_are_those_of_the_calls(clock: Clock, calls: list[str]) -> None:
    runners = [Counting("a", 4.0, clock, calls), Counting("b", 1.0, clock, calls)]
    (found,) = measure(list(map(contender, runners)), ONE, settings(), clock=clock)
    slow, fast = found.results["a"], found.results["b"]
    assert isinstance(slow, Measured)
    assert isinstance(fast, Measured)
    assert (slow.call.p50, fast.call.p99, fast.gpu) == (4.0, 1.0, None)
    assert slow.speedup is not None
    assert fast.speedup is not None
    assert (slow.speedup.median, fast.speedup.median) == (1.0, 4.0)


def test_texts_are_timed_over_all_their_batches(clock: Clock, calls: list[str]) -> None:
    batches = tuple({name: np.ones((2, size), np.int64) for name in NAMES} for size in (3, 5))
    texts = Texts("4 of sst2", "by length", examples=4, tokens=12, batches=batches)
    runner = OnGpu("a", 1.5, clock, calls)
    (found,) = measure([contender(runner)], [texts], settings(), clock=clock)
    one = found.results["a"]
    assert isinstance(one, Measured)
    assert (one.call.p50, one.gpu) == (3.0, None)  # a graph of the GPU is of one shape
    assert texts.padded_tokens == 16


def test_what_reads_more_than_texts_have_keeps_its_place_with_the_reason(
    clock: Clock, calls: list[str]
) -> None:
    texts = Texts("1 of sst2", "by length", 1, 3, ({"input_ids": np.ones((1, 3), np.int64)},))
    runner = Counting("a", 1.0, clock, calls)
    (found,) = measure([contender(runner)], [texts], settings(), clock=clock)
    assert found.results["a"] == NotRun(
        "inputs for 1 of sst2: expected those that the artefact's model reads, found "
        "attention_mask; compare models that read the same batches"
    )


def test_what_runs_on_a_gpu_is_timed_there_too(clock: Clock, calls: list[str]) -> None:
    runners = [OnGpu("a", 4.0, clock, calls), OnGpu("b", 1.0, clock, calls)]
    (found,) = measure(list(map(contender, runners)), ONE, settings(), clock=clock)
    fast = found.results["b"]
    assert isinstance(fast, Measured)
    assert fast.gpu is not None
    assert fast.gpu_speedup is not None
    assert (fast.gpu.p50, fast.gpu_speedup.median) == (0.5, 4.0)
    assert calls.count("b gpu") == calls.count("b") - 1  # the first one opens it


def test_what_cannot_be_opened_keeps_its_place_with_the_reason(
    clock: Clock, calls: list[str]
) -> None:
    def refuse() -> NotRun:
        raise CapabilityMissing("b", expected="a GPU", found="none", remedy="buy one")

    absent = [Contender("b", "the b", refuse), Contender("c", "the c", lambda: NotRun("no plan"))]
    first = contender(Counting("a", 1.0, clock, calls))
    (found,) = measure([first, *absent], ONE, settings(), clock=clock)
    assert list(found.results) == ["a", "b", "c"]
    assert found.results["b"] == NotRun("b: expected a GPU, found none; buy one")
    assert found.results["c"] == NotRun("no plan")


def test_a_baseline_that_did_not_run_leaves_the_speed_open(clock: Clock, calls: list[str]) -> None:
    absent = Contender("a", "the a", lambda: NotRun("no plan"))
    others = [absent, contender(OnGpu("b", 1.0, clock, calls))]
    (found,) = measure(others, ONE, settings(), clock=clock)
    measured = found.results["b"]
    assert isinstance(measured, Measured)
    assert (measured.speedup, measured.gpu_speedup) == (None, None)


def test_nothing_that_runs_is_a_result_too(clock: Clock) -> None:
    absent = Contender("a", "the a", lambda: NotRun("no plan"))
    (found,) = measure([absent], ONE, settings(), clock=clock)
    assert (found.rounds, dict(found.results)) == (0, {"a": NotRun("no plan")})


def test_a_shape_that_one_refuses_is_measured_for_the_others(
    clock: Clock, calls: list[str]
) -> None:
    class Small(Counting):
        def run(self, feeds: Feeds) -> Outputs:
            if len(feeds["input_ids"]) > 2:
                raise ShapeError("a batch", expected="2", found="more", remedy="build again")
            return super().run(feeds)

    both = [contender(Counting("a", 1.0, clock, calls)), contender(Small("b", 1.0, clock, calls))]
    small, large = measure(both, (Workload(2, 8), Workload(3, 8)), settings(), clock=clock)
    assert isinstance(small.results["b"], Measured)
    assert large.results["b"] == NotRun("a batch: expected 2, found more; build again")
    assert isinstance(large.results["a"], Measured)


def test_what_is_no_refusal_ends_the_comparison(clock: Clock) -> None:
    def fail() -> NotRun:
        raise UsageError("a", expected="x", found="y", remedy="z")

    with pytest.raises(UsageError):
        measure([Contender("a", "the a", fail)], ONE, settings(), clock=clock)


def test_time_ends_the_rounds_but_not_the_first_ones(clock: Clock, calls: list[str]) -> None:
    runner = [contender(Counting("a", 1.0, clock, calls))]
    (short,) = measure(runner, ONE, settings(rounds=50, seconds=0), clock=clock)
    (longer,) = measure(runner, ONE, settings(rounds=50, seconds=40.5), clock=clock)
    assert short.rounds == LEAST_ROUNDS
    assert longer.rounds == 10  # of four seconds, after a run of one second to warm up


def test_an_unknown_baseline_is_refused(clock: Clock, calls: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        measure([contender(Counting("a", 1.0, clock, calls))], ONE, settings("z"), clock=clock)
    assert str(caught.value) == (
        "baseline 'z': expected one of a, found an unknown one; name one of them"
    )


def test_progress_names_the_shape_and_counts_its_rounds(clock: Clock, calls: list[str]) -> None:
    heard: list[tuple[str, int, int]] = []
    measure(
        [contender(Counting("a", 1.0, clock, calls))],
        ONE,
        settings(rounds=3),
        on_progress=lambda *step: heard.append(step),
        clock=clock,
    )
    assert heard[-4:] == [("2x8", done, 3) for done in range(4)]


class Answering(Counting):
    """One whose logits are a number."""

    def __init__(self, name: str, answer: float, clock: Clock, calls: list[str]) -> None:
        super().__init__(name, 1.0, clock, calls)
        self._answer = answer

    def run(self, feeds: Feeds) -> Outputs:
        return {name: each + np.float32(self._answer) for name, each in super().run(feeds).items()}


@pytest.mark.parametrize(
    ("answer", "distance"), [(1.5, 0.5), (1.0, 0.0), (0.75, 0.25), (np.nan, np.nan)]
)
def test_answers_are_held_against_those_of_exact_products(
    clock: Clock, calls: list[str], answer: float, distance: float
) -> None:
    default = contender(Answering("a", answer, clock, calls), exact="a+exact")
    exact = contender(Answering("a+exact", 1.0, clock, calls))
    (found,) = measure([default, exact], ONE, settings(), clock=clock)
    first, second = found.results["a"], found.results["a+exact"]
    assert isinstance(first, Measured)
    assert isinstance(second, Measured)
    assert first.from_exact == pytest.approx(distance, nan_ok=True)
    assert second.from_exact is None


def test_without_exact_products_nothing_is_said_of_answers(clock: Clock, calls: list[str]) -> None:
    default = contender(Answering("a", 1.0, clock, calls), exact="a+exact")
    absent = Contender("a+exact", "the other", lambda: NotRun("it does not open"))
    (found,) = measure([default, absent], ONE, settings(), clock=clock)
    first = found.results["a"]
    assert isinstance(first, Measured)
    assert first.from_exact is None


@pytest.mark.parametrize(
    ("untimed", "runs"),
    [(1, 2 + 2 * 6), (0, 1 + 6)],  # one opens it; one warms up, where turns have untimed runs
)
def test_turns_and_the_least_rounds_may_be_others(
    clock: Clock, calls: list[str], untimed: int, runs: int
) -> None:
    turns = {ONE[0]: Turn(untimed=untimed, timed=1)}
    chosen = BenchSettings("a", 30, rounds=50, seconds=0, least_rounds=6, turns=turns)
    (found,) = measure([contender(Counting("a", 1.0, clock, calls))], ONE, chosen, clock=clock)
    first = found.results["a"]
    assert isinstance(first, Measured)
    assert (found.rounds, first.call.runs) == (6, 6)
    assert len(calls) == runs


# -------------------------------------------------------------------------------- the batches


def test_every_contender_gets_the_same_words(clock: Clock, calls: list[str]) -> None:
    seen: list[Feeds] = []

    class Keeping(Counting):
        def run(self, feeds: Feeds) -> Outputs:
            seen.append(feeds)
            return super().run(feeds)

    class Fewer(Keeping):
        input_names = NAMES[:2]

    both = [contender(Keeping("a", 1.0, clock, calls)), contender(Fewer("b", 1.0, clock, calls))]
    measure(both, ONE, settings(), clock=clock)
    assert {tuple(feeds) for feeds in seen} == {NAMES, NAMES[:2]}
    words = {feeds["input_ids"].tobytes() for feeds in seen}
    assert len(words) == 1
    first = seen[0]
    assert all(array.shape == (2, 8) for array in first.values())
    assert 0 <= first["input_ids"].min() <= first["input_ids"].max() < 30
    assert first["attention_mask"].all()
    assert not first["token_type_ids"].any()


def test_an_input_of_another_name_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        batch_for(ONE[0], ["pixels"], vocabulary=30, rng=np.random.default_rng(0))
    assert str(caught.value) == (
        "model inputs: expected none but input_ids, attention_mask, token_type_ids, "
        "found pixels; compare models that read the same batches"
    )


def test_shapes_keep_their_order_and_come_once() -> None:
    found = parse_workloads(" 8x128,1x16, 8x128", position_limit=128)
    assert found == (Workload(8, 128), Workload(1, 16))


@pytest.mark.parametrize("text", ["", "8", "0x8", "8x", "8x8x8", "a"])
def test_other_text_is_no_shape(text: str) -> None:
    with pytest.raises(ShapeError) as caught:
        parse_workloads(text, position_limit=128)
    assert str(caught.value) == (
        f"shapes: expected the form 1x128,8x128 (batch x sequence of each), found {text!r}; "
        "write whole numbers, and commas between the shapes"
    )


def test_a_sequence_beyond_the_position_table_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        parse_workloads("1x129", position_limit=128)
    assert str(caught.value) == (
        "shape 1x129: expected at most 128 tokens, the model's position table, found 129; "
        "name a shorter sequence"
    )


# --------------------------------------------------------------------------- other processes


def stat(path: Path, *cpus: tuple[int, int, int]) -> Path:
    """/proc/stat with user, system and idle ticks of each processor."""
    lines = [
        f"cpu{at} {user} 0 {system} {idle} 7 0 0 0 999 0"
        for at, (user, system, idle) in enumerate(cpus)
    ]
    path.write_text("\n".join(["cpu  1 1 1 1 1 1 1 1 1 1", *lines, "ctxt 5"]))
    return path


def test_what_others_used_is_what_was_used_less_our_own(tmp_path: Path, clock: Clock) -> None:
    own = iter([1.0, 6.0])
    path = stat(tmp_path / "stat", (0, 0, 0), (0, 0, 0), (0, 0, 0))
    load = OtherLoad(stat=path, cpus=frozenset({0, 1}), clock=clock, own_seconds=lambda: next(own))
    clock.now += 10
    # 900 + 100 and 300 + 100 ticks are 14 seconds, of which 5 were ours; the third is not ours.
    stat(path, (900, 100, 0), (300, 100, 600), (5000, 0, 0))
    assert load.cores() == pytest.approx(0.9)


def test_no_more_than_nothing_is_used_by_others(tmp_path: Path, clock: Clock) -> None:
    own = iter([0.0, 9.0])
    path = stat(tmp_path / "stat", (0, 0, 0))
    load = OtherLoad(stat=path, cpus=frozenset({0}), clock=clock, own_seconds=lambda: next(own))
    clock.now += 10
    stat(path, (890, 0, 110))  # its own counter is the finer one
    assert load.cores() == 0


def test_where_nothing_tells_it_is_unknown(tmp_path: Path) -> None:
    assert OtherLoad(stat=tmp_path / "absent").cores() is None
