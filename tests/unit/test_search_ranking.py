import math

import numpy as np
import pytest

from nxmi_export.glue import task_named
from nxmi_export.search.early_stopping import MeanStop, MetricStop, Outcomes
from nxmi_export.search.ranking import Selection
from nxmi_export.search.score import Score
from nxmi_export.search.space import Candidate

TASK = task_named("sst2")
LABELS = np.array([0, 1] * 50)


def _score(divergence: float, metric: float | None = None, *, stopped: bool = False) -> Score:
    return Score(10, divergence, metric, stopped)


def _named(*names: str) -> tuple[Candidate, ...]:
    return tuple(Candidate((name,)) for name in names)


def test_the_least_divergence_wins_and_what_was_given_up_is_no_candidate() -> None:
    a, b, c, d = _named("a", "b", "c", "d")
    scores = {a: _score(0.3), b: _score(0.1), c: _score(0.2), d: _score(0.0, stopped=True)}
    assert Selection("divergence", 2, 0.05).best(scores) == (b, c)
    assert Selection("divergence", 2, 0.05).ordered(scores) == (b, c, a)


def test_equal_metrics_are_ordered_by_divergence() -> None:
    a, b, c = _named("a", "b", "c")
    scores = {a: _score(0.3, 0.8), b: _score(0.9, 0.9), c: _score(0.2, 0.8)}
    assert Selection("metric", 3, 0.05).best(scores) == (b, c, a)


def test_equal_scores_are_ordered_by_their_schemes_however_they_came() -> None:
    a, b = _named("a", "b")
    scores = {b: _score(0.1), a: _score(0.1)}
    assert Selection("divergence", 2, 0.05).best(scores) == (a, b)


def test_a_metric_that_is_no_number_comes_last() -> None:
    a, b = _named("a", "b")
    scores = {a: _score(0.1, math.nan), b: _score(0.9, -0.5)}
    assert Selection("metric", 2, 0.05).best(scores) == (b, a)


def test_the_bar_is_the_last_of_the_kept() -> None:
    a, b, c = _named("a", "b", "c")
    scores = {a: _score(0.3), b: _score(0.1)}
    selection = Selection("divergence", 3, 0.05)
    assert selection.bar(scores) is None
    assert selection.bar({**scores, c: _score(0.2)}) == _score(0.3)


def test_without_a_bar_nothing_is_given_up() -> None:
    assert Selection("divergence", 3, 0.05).stop(None, TASK, LABELS) is None


def test_a_bar_without_a_metric_stops_nothing() -> None:
    selection = Selection("metric", 3, 0.05)
    assert selection.stop(_score(0.1, math.nan), TASK, LABELS) is None


@pytest.mark.parametrize(("objective", "kind"), [("divergence", MeanStop), ("metric", MetricStop)])
def test_the_stop_is_of_the_objective(objective: str, kind: type) -> None:
    selection = Selection(objective, 3, 0.05)  # type: ignore[arg-type]
    assert isinstance(selection.stop(_score(0.1, 0.9), TASK, LABELS), kind)


@pytest.mark.parametrize(
    ("keep", "centres", "enough"), [(1, 0, True), (50, 0, False), (1, 49, False)]
)
def test_every_kept_candidate_and_every_centre_has_its_share_of_the_error(
    keep: int, centres: int, enough: bool
) -> None:
    chances = 1 / np.arange(len(LABELS), len(LABELS) - 4, -1)
    outcomes = Outcomes(np.arange(4), chances, np.full(4, 0.4), LABELS[:4])
    # four times the threshold, four times over: enough for an error of 0.05, not for 0.05 / 50
    stop = Selection("divergence", keep, 0.05, centres).stop(_score(0.1), TASK, LABELS)
    assert stop is not None
    assert stop.add(outcomes) == enough


def test_no_member_of_the_best_is_lost_more_often_than_stated() -> None:
    # 40 candidates on 120 examples, scored in one random order per trial as a search does it:
    # the first `keep` whole, all others against the bar so far. The best are close to each other.
    keep, error, trials = 3, 0.2, 150
    generator = np.random.default_rng(0)
    selection = Selection("divergence", keep, error)
    lost = spent = 0
    for _ in range(trials):
        means = np.linspace(0.1, 0.6, 40)
        table = generator.exponential(means[:, None], (40, 120))
        best = set(np.argsort(table.mean(axis=1))[:keep].tolist())
        scores: dict[Candidate, Score] = {}
        for index in generator.permutation(40):
            stop = selection.stop(selection.bar(scores), TASK, np.zeros(120, np.int64))
            examples, stopped = 120, False
            for start in range(0, 120, 10):
                rows = np.arange(start, start + 10)
                chances = 1 / (120 - rows)
                seen = Outcomes(rows, chances, table[index, rows], np.zeros(10, np.int64))
                if stop is not None and stop.add(seen):
                    examples, stopped = start + 10, True
                    break
            spent += examples
            score = Score(examples, float(table[index].mean()), None, stopped)
            scores[Candidate((str(index),))] = score
        found = {int(each.schemes[0]) for each in selection.best(scores)}
        lost += found != best
    assert lost <= error * trials
    assert spent < 0.6 * trials * 40 * 120  # and it is worth it
