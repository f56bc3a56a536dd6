import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nxmi_export.glue import Task, primary, score, task_named
from nxmi_export.search.early_stopping import MeanStop, MetricStop, Outcomes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def _values(values: FloatArray, chances: FloatArray) -> Outcomes:
    examples = np.arange(len(values))
    return Outcomes(examples, chances, values, np.zeros(len(values), np.int64))


def _stopped_after(
    stop: MeanStop, values: FloatArray, chunk: int = 1, chances: FloatArray | None = None
) -> int | None:
    """How many values the stop wanted to see, or None where it never stopped."""
    if chances is None:
        chances = 1.0 / np.arange(len(values), 0, -1)
    for start in range(0, len(values), chunk):
        end = start + chunk
        if stop.add(_values(values[start:end], chances[start:end])):
            return min(end, len(values))
    return None


def _drawn(weights: FloatArray, generator: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """An order in which the next is drawn by `weights`, one by one, and the chances that it had."""
    left, order, chances = list(range(len(weights))), [], []
    while left:
        shares = weights[left] / weights[left].sum()
        place = int(generator.choice(len(left), p=shares))
        chances.append(float(shares[place]))
        order.append(left.pop(place))
    return np.array(order), np.array(chances)


def _gamma(count: int, generator: np.random.Generator) -> FloatArray:
    return generator.gamma(0.3, size=count)


def _log_normal(count: int, generator: np.random.Generator) -> FloatArray:
    return generator.lognormal(sigma=2.5, size=count)


def _one_of_them(count: int, generator: np.random.Generator) -> FloatArray:
    values = np.zeros(count)
    values[0] = 1.0
    return values


def _few_zeros(count: int, generator: np.random.Generator) -> FloatArray:
    return (generator.random(count) < 0.9).astype(np.float64)


POPULATIONS = [_gamma, _log_normal, _one_of_them, _few_zeros]


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("count", [40, 366])
def test_a_mean_at_the_threshold_is_rejected_no_more_often_than_stated(
    population: Callable[[int, np.random.Generator], FloatArray], count: int
) -> None:
    generator = np.random.default_rng(7)
    error, trials = 0.2, 400
    values = population(count, generator)
    rejected = 0
    for _ in range(trials):
        stop = MeanStop(count, float(values.mean()), error)
        rejected += _stopped_after(stop, generator.permutation(values)) is not None
    # three standard deviations of a share that is exactly `error`
    assert rejected <= trials * error + 3 * math.sqrt(trials * error * (1 - error))


@pytest.mark.parametrize("population", POPULATIONS)
def test_examples_that_come_sooner_change_nothing_of_the_promise(
    population: Callable[[int, np.random.Generator], FloatArray],
) -> None:
    generator = np.random.default_rng(11)
    error, trials = 0.2, 300
    values = population(40, generator)
    weights = 0.1 + values * generator.lognormal(sigma=1.0, size=len(values))  # a rough idea
    rejected = 0
    for _ in range(trials):
        order, chances = _drawn(weights, generator)
        stop = MeanStop(len(values), float(values.mean()), error)
        rejected += _stopped_after(stop, values[order], chances=chances) is not None
    assert rejected <= trials * error + 3 * math.sqrt(trials * error * (1 - error))


def test_telling_examples_first_reject_sooner() -> None:
    generator = np.random.default_rng(0)
    expected = generator.lognormal(sigma=2.0, size=366)
    values = expected * generator.lognormal(sigma=0.5, size=366)
    bar = float(values.mean()) / 2
    needed = {}
    for name, weights in {"equal": np.ones(366), "expected": 0.1 + expected}.items():
        found = []
        for _ in range(15):
            order, chances = _drawn(weights, generator)
            after = _stopped_after(MeanStop(366, bar, 0.01), values[order], chances=chances)
            found.append(366 if after is None else after)
        needed[name] = np.median(found)
    assert needed["expected"] < needed["equal"] / 4


def test_the_bound_is_used_and_not_merely_kept() -> None:
    """At the boundary a stop that never rejects would keep the promise, too."""
    generator = np.random.default_rng(3)
    values = _few_zeros(366, generator)
    stops = [MeanStop(366, float(values.mean()), 0.5) for _ in range(200)]
    rejected = [_stopped_after(stop, generator.permutation(values)) for stop in stops]
    assert sum(each is not None for each in rejected) > 20


@pytest.mark.parametrize(("sigma", "typical"), [(1.0, 25), (1.5, 50)])
def test_three_times_the_threshold_is_rejected_early(sigma: float, typical: int) -> None:
    """With the error that 905 candidates leave each of them."""
    generator = np.random.default_rng(0)
    needed = []
    for _ in range(50):
        values = generator.lognormal(sigma=sigma, size=366)
        after = _stopped_after(MeanStop(366, float(values.mean()) / 3, 0.05 / 905), values)
        needed.append(math.inf if after is None else after)
    assert np.median(needed) <= typical


def test_every_mean_above_the_threshold_is_rejected_in_the_end() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        values = generator.lognormal(sigma=2.0, size=60)
        assert _stopped_after(MeanStop(60, float(values.mean()) * 0.999, 1e-9), values) is not None


@given(
    values=st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40),
    chunk=st.integers(1, 7),
)
@settings(max_examples=200)
def test_a_decision_falls_no_later_in_chunks_and_stays(values: list[float], chunk: int) -> None:
    population = np.array(values)
    threshold = float(population.mean()) / 2
    one_by_one = _stopped_after(MeanStop(len(values), threshold, 0.05), population)
    in_chunks = MeanStop(len(values), threshold, 0.05)
    after = _stopped_after(in_chunks, population, chunk)
    if one_by_one is None:
        assert after is None
    else:
        assert after == min(-(-one_by_one // chunk) * chunk, len(values))
        assert in_chunks.add(_values(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_a_population_does_not_exceed_its_own_mean_by_rounding(scale: float) -> None:
    values = np.full(366, 0.1 * scale)
    assert _stopped_after(MeanStop(366, float(values.mean()), 1e-6), values) is None


def test_the_first_value_above_a_threshold_of_zero_is_enough() -> None:
    values = np.array([0.0, 0.0, 1e-30, 0.0])
    assert _stopped_after(MeanStop(4, 0.0, 1e-6), values) == 3
    assert _stopped_after(MeanStop(4, 0.0, 1e-6), np.zeros(4)) is None


def test_a_sum_that_no_rest_can_make_up_for_is_certain_whatever_the_error() -> None:
    assert _stopped_after(MeanStop(10, 1.0, 1e-300), np.full(10, 4.0)) == 3


def _outcomes(examples: IntArray, predictions: IntArray) -> Outcomes:
    chances = 1.0 / np.arange(len(examples), 0, -1)
    return Outcomes(examples, chances, np.zeros(len(examples)), predictions)


def _predicted(labels: NDArray[np.int64], share: float, generator: np.random.Generator) -> Outcomes:
    """Predictions of which `share` are right, in a random order."""
    wrong = generator.permutation(len(labels)) >= round(share * len(labels))
    order = generator.permutation(len(labels))
    return _outcomes(order, np.where(wrong, 1 - labels, labels)[order])


def _metric(task: Task, labels: NDArray[np.int64], outcomes: Outcomes) -> float:
    return primary(task, score(task, outcomes.predictions, labels[outcomes.examples]))


def _chunks(outcomes: Outcomes, size: int) -> list[Outcomes]:
    fields = [getattr(outcomes, field.name) for field in dataclasses.fields(outcomes)]
    cuts = range(size, len(outcomes.examples), size)
    return [Outcomes(*parts) for parts in zip(*(np.split(f, cuts) for f in fields), strict=True)]


def _labels(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return (generator.random(count) < 0.68).astype(np.int64)


@pytest.mark.parametrize("name", ["sst2", "mrpc", "cola"])
def test_the_limit_of_a_metric_is_rarely_below_what_the_whole_slice_gives(name: str) -> None:
    task, generator = task_named(name), np.random.default_rng(5)
    labels = _labels(200, generator)
    error, trials, broken = 0.2, 150, 0
    for _ in range(trials):
        outcomes = _predicted(labels, 0.8, generator)
        truth = _metric(task, labels, outcomes)
        stop = MetricStop(labels, task, truth, error)
        broken += any(stop.add(chunk) for chunk in _chunks(outcomes, 20))
    assert broken <= trials * error + 3 * math.sqrt(trials * error * (1 - error))


@pytest.mark.parametrize("name", ["sst2", "mrpc", "cola"])
def test_a_metric_near_chance_is_stopped_half_way(name: str) -> None:
    task, generator = task_named(name), np.random.default_rng(5)
    labels = _labels(366, generator)
    outcomes = _predicted(labels, 0.5, generator)
    stop = MetricStop(labels, task, 0.85, 0.05 / 905)
    chunks = _chunks(outcomes, 16)
    assert any(stop.add(chunk) for chunk in chunks[: len(chunks) // 2])


@pytest.mark.parametrize("name", ["sst2", "mrpc", "cola"])
def test_the_limit_is_the_metric_itself_once_everything_was_seen(name: str) -> None:
    task, generator = task_named(name), np.random.default_rng(2)
    labels = _labels(64, generator)
    outcomes = _predicted(labels, 0.7, generator)
    stop = MetricStop(labels, task, 0.0, 0.05)
    for chunk in _chunks(outcomes, 16):
        assert not stop.add(chunk)
    assert stop.upper_limit() == pytest.approx(_metric(task, labels, outcomes), abs=1e-12)


def test_a_tie_of_the_metric_is_not_stopped() -> None:
    task, labels = task_named("sst2"), np.array([0, 1, 1, 0])
    outcomes = _outcomes(np.arange(4), np.array([0, 1, 0, 0]))
    assert not MetricStop(labels, task, 0.75, 0.05).add(outcomes)
    assert MetricStop(labels, task, 0.75 + 1e-9, 0.05).add(outcomes)


def test_a_slice_without_one_of_the_classes_is_limited_by_the_others() -> None:
    task, labels = task_named("mrpc"), np.ones(6, np.int64)
    outcomes = _outcomes(np.arange(6), np.array([0, 0, 0, 0, 0, 1]))
    stop = MetricStop(labels, task, 0.9, 0.05)
    assert stop.add(outcomes)
    assert stop.upper_limit() == pytest.approx(_metric(task, labels, outcomes))


def test_accuracy_of_three_classes_is_limited_too() -> None:
    task, generator = task_named("mnli"), np.random.default_rng(2)
    labels = generator.integers(0, 3, 300)
    order = generator.permutation(300)
    outcomes = _outcomes(order, (labels[order] + 1) % 3)
    assert MetricStop(labels, task, 0.5, 1e-4).add(_chunks(outcomes, 20)[0])


@given(counts=st.tuples(*[st.integers(0, 12)] * 2), sizes=st.tuples(*[st.integers(1, 12)] * 2))
@pytest.mark.parametrize("name", ["sst2", "mrpc", "cola"])
def test_every_metric_rises_with_every_right_prediction(
    name: str, counts: tuple[int, int], sizes: tuple[int, int]
) -> None:
    """What the limit rests on."""
    task, labels = task_named(name), np.repeat([0, 1], sizes)

    def metric(right: tuple[int, int]) -> float:
        parts = [
            np.where(np.arange(size) < min(count, size), label, 1 - label)
            for label, size, count in zip((0, 1), sizes, right, strict=True)
        ]
        return primary(task, score(task, np.concatenate(parts), labels))

    for better in ((counts[0] + 1, counts[1]), (counts[0], counts[1] + 1)):
        assert metric(better) >= metric(counts) - 1e-12


def test_a_regression_is_never_stopped() -> None:
    labels = np.linspace(0, 5, 8)
    outcomes = Outcomes(np.arange(8), np.ones(8), np.full(8, 1e9), np.full(8, -1e9))
    assert not MetricStop(labels, task_named("stsb"), 0.99, 0.5).add(outcomes)
