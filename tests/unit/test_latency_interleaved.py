from collections.abc import Iterator

import pytest

from nxmi_export.latency.interleaved import (
    WARM_UP,
    Timer,
    Turn,
    samples,
    timings,
    worst_spread,
)


def timer_of(times: Iterator[float]) -> Timer:
    return lambda: next(times)


def test_a_disturbed_half_does_not_count() -> None:
    warm_up = [100.0] * WARM_UP
    calm, busy = [1.0] * 4, [9.0] * 6
    found = timings({"a": timer_of(iter([*warm_up, *calm, *busy]))}, rounds=10)
    assert (found["a"].seconds, found["a"].median, found["a"].spread) == (1.0, 9.0, 9.0)


def test_the_worst_spread_is_told() -> None:
    found = timings({1: lambda: 2.0, 2: lambda: 3.0}, rounds=2)
    assert worst_spread(found.values()) == 1.0


def test_timers_take_turns() -> None:
    turns: list[str] = []

    def timer(name: str) -> Timer:
        return lambda: turns.append(name) or 1.0  # type: ignore[func-returns-value]

    timings({"a": timer("a"), "b": timer("b")}, rounds=2)
    assert turns == ["a", "b"] * (WARM_UP + 2)


def test_rounds_are_reported() -> None:
    heard: list[tuple[int, int]] = []
    timings({"a": lambda: 1.0}, 2, lambda done, total: heard.append((done, total)))
    assert heard == [(0, 2), (1, 2), (2, 2)]


def test_the_first_tenth_lies_between_two_times() -> None:
    times = iter([0.0] * WARM_UP + [float(each) for each in range(1, 12)])
    assert timings({"a": timer_of(times)}, rounds=11)["a"].seconds == pytest.approx(2.0)


def test_a_turn_has_runs_that_do_not_count_and_ends_when_it_is_enough() -> None:
    heard: list[int] = []
    times = iter(float(each) for each in range(100))
    found = samples(
        {"a": timer_of(times)},
        rounds=9,
        turn=Turn(untimed=1, timed=2),
        warm_up=1,
        enough=lambda done: heard.append(done) or done == 2,  # type: ignore[func-returns-value]
    )
    # 0 warms up; 1 and 4 begin a turn.
    assert found == {"a": [[2.0, 3.0], [5.0, 6.0]]}
    assert heard == [0, 1, 2]
