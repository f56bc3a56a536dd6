"""Searching the smallest set of layers whose return restores a metric."""

import json
import math
from collections.abc import Callable, Sequence
from itertools import combinations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from nxmi_export.errors import UsageError
from nxmi_export.parity.bisect import Bisection, Certainty, Goal, Trial, smallest_set

LAYERS = tuple(f"layer.{i}" for i in range(12))
GOAL = Goal(reference=0.90, tolerance=0.01)


def _additive(losses: dict[str, float]) -> "Metric":
    return Metric(lambda layers: 0.90 - sum(v for k, v in losses.items() if k not in layers))


class Metric:
    """Counts what it is asked."""

    def __init__(self, of: Callable[[frozenset[str]], float]) -> None:
        self._of = of
        self.asked: list[frozenset[str]] = []

    def __call__(self, layers: frozenset[str]) -> float:
        self.asked.append(layers)
        return self._of(layers)


def _search(metric: Metric, *, budget: int = 200, suspects: Sequence[str] = ()) -> Bisection:
    return smallest_set(LAYERS, metric, GOAL, budget=budget, suspects=suspects)


def test_the_one_layer_that_costs_the_metric_is_found() -> None:
    found = _search(_additive({"layer.7": 0.05, "layer.2": 0.005}))
    assert (found.layers, found.certainty) == (("layer.7",), Certainty.SMALLEST)
    assert found.metric == pytest.approx(0.895)
    assert found.restored


def test_two_layers_that_each_cost_too_much_are_proved_smallest() -> None:
    found = _search(_additive({"layer.1": 0.04, "layer.10": 0.03}))
    assert found.layers == ("layer.1", "layer.10")
    assert (found.certainty, found.ruled_out) == (Certainty.SMALLEST, 1)
    assert {frozenset([name]) for name in LAYERS} <= {frozenset(t.layers) for t in found.trials}


def test_a_smaller_set_than_the_minimal_one_is_found_by_trying_all() -> None:
    # Delta debugging meets {0, 1} first; {11} alone would do.
    metric = Metric(
        lambda layers: (
            0.9 if {"layer.0", "layer.1"} <= layers else 0.5 + 0.4 * ("layer.11" in layers)
        )
    )
    found = _search(metric)
    assert (found.layers, found.certainty) == (("layer.11",), Certainty.SMALLEST)


def test_a_good_order_of_suspects_saves_evaluations() -> None:
    losses = {"layer.3": 0.04, "layer.8": 0.03, "layer.11": 0.02}
    blind = _search(_additive(losses), budget=1000)
    told = _search(_additive(losses), budget=1000, suspects=list(losses))
    assert blind.layers == told.layers == tuple(losses)
    before_proof = [
        next(i for i, trial in enumerate(each.trials) if trial.layers == each.layers)
        for each in (blind, told)
    ]
    assert before_proof[1] < before_proof[0]


def test_a_wrong_order_of_suspects_changes_nothing_but_the_count() -> None:
    found = _search(_additive({"layer.7": 0.05}), suspects=["layer.0", "layer.1"])
    assert (found.layers, found.certainty) == (("layer.7",), Certainty.SMALLEST)


def test_nothing_is_returned_where_nothing_was_lost() -> None:
    metric = _additive({"layer.7": 0.01})  # exactly the tolerance
    found = _search(metric)
    assert (found.layers, found.certainty) == ((), Certainty.UNNEEDED)
    assert metric.asked == [frozenset()]


def test_where_returning_everything_does_not_help_that_is_the_answer() -> None:
    found = _search(Metric(lambda layers: 0.5))
    assert (found.layers, found.certainty, found.restored) == ((), Certainty.HOPELESS, False)
    assert found.evaluations == 2
    assert found.metric == 0.5


def test_a_metric_that_is_no_number_restores_nothing() -> None:
    metric = Metric(
        lambda layers: (
            math.nan if "layer.4" in layers and len(layers) < 12 else 0.9 * ("layer.5" in layers)
        )
    )
    found = _search(metric)
    assert found.layers == ("layer.5",)
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["metric"] == pytest.approx(0.9)


def test_no_set_is_evaluated_twice_and_the_budget_holds() -> None:
    metric = _additive(dict.fromkeys(LAYERS[::2], 0.02))
    found = _search(metric, budget=9)
    assert len(metric.asked) == len(set(metric.asked)) == found.evaluations == 9
    assert found.certainty is Certainty.SUFFICIENT
    assert found.metric >= 0.89


def test_the_least_budget_still_gives_a_sufficient_set() -> None:
    found = _search(_additive({"layer.7": 0.05}), budget=2)
    assert (found.layers, found.certainty) == (LAYERS, Certainty.SUFFICIENT)


def test_sizes_that_the_budget_cannot_rule_out_leave_the_set_minimal() -> None:
    losses = dict.fromkeys(LAYERS[:4], 0.02)
    found = _search(_additive(losses), budget=60)
    assert set(found.layers) == set(losses)
    assert (found.certainty, found.ruled_out) == (Certainty.MINIMAL, 1)  # 66 pairs are too many


def test_the_same_search_makes_the_same_trials() -> None:
    losses = {"layer.3": 0.04, "layer.8": 0.03}
    assert _search(_additive(losses)) == _search(_additive(losses))


def test_trials_are_heard_as_they_are_made() -> None:
    heard: list[Trial] = []
    found = smallest_set(
        LAYERS, _additive({"layer.7": 0.05}), GOAL, budget=50, on_trial=heard.append
    )
    assert tuple(heard) == found.trials
    assert heard[0] == Trial((), pytest.approx(0.85), restores=False)


def test_a_set_that_was_evaluated_before_is_counted_and_not_evaluated_again() -> None:
    whole = frozenset(LAYERS)
    for losses, evaluations in (({}, 2), ({"layer.7": 0.05}, 4)):
        metric, heard = _additive(losses), list[Trial]()
        known = {whole: metric(whole)}
        found = smallest_set(LAYERS, metric, GOAL, budget=4, known=known, on_trial=heard.append)
        assert found.trials[:2] == (
            Trial(LAYERS, 0.9, restores=True),
            Trial((), metric(frozenset()), restores=not losses),
        )
        assert tuple(heard) == found.trials
        assert metric.asked.count(whole) == 1
        assert found.evaluations == evaluations
        assert found.metric_before == metric(frozenset())


@given(
    st.dictionaries(st.sampled_from(LAYERS[:6]), st.floats(0.001, 0.05)),
    st.permutations(LAYERS[:6]),
)
def test_the_answer_is_as_small_as_any(losses: dict[str, float], order: list[str]) -> None:
    layers, metric = LAYERS[:6], _additive(losses)
    found = smallest_set(layers, metric, GOAL, budget=64, suspects=order[:3])
    sizes = [
        size
        for size in range(7)
        if any(GOAL.met_by(metric(frozenset(each))) for each in combinations(layers, size))
    ]
    assert len(found.layers) == min(sizes)
    assert found.certainty in (Certainty.SMALLEST, Certainty.UNNEEDED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layers": ()},
            "bisecting: expected layers that can be returned to float, found none; "
            "bisect a model that was compressed",
        ),
        (
            {"suspects": ["layer.99"]},
            "bisecting: expected suspects among the layers, found layer.99; "
            "layers look like 'layer.0'",
        ),
        (
            {"goal": Goal(0.9, -0.1)},
            "bisecting: expected a tolerance of at least 0, found -0.1; "
            "give the drop of the metric that is accepted",
        ),
        (
            {"budget": 1},
            "bisecting: expected a budget of at least 2 evaluations, found 1; allow more",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"layers": LAYERS, "goal": GOAL, "budget": 50, "suspects": ()}
    given_arguments = arguments | change
    layers, goal = given_arguments.pop("layers"), given_arguments.pop("goal")
    metric = _additive({})
    with pytest.raises(UsageError) as error:
        smallest_set(layers, metric, goal, **given_arguments)  # type: ignore[arg-type]
    assert str(error.value) == message
    assert metric.asked == []
