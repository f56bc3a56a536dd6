"""Layers and a metric of returning some of them in, the smallest set that restores it out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import combinations
from types import MappingProxyType
from typing import Any

from nxmi_export.errors import UsageError
from nxmi_export.parity.bisect.ddmin import ddmin
from nxmi_export.parity.bisect.trials import BudgetSpent, Goal, Trial, Trials

__all__ = ["Bisection", "Certainty", "smallest_set"]

SCHEMA = "nxmi-export/bisect/1"
_LEAST_BUDGET = 2  # without any layer returned, and with all of them


class Certainty(StrEnum):
    """What is known of the set that was found."""

    UNNEEDED = "the metric is within the tolerance as it is"
    SMALLEST = "no smaller set restores the metric"
    MINIMAL = "no layer can be left out; a smaller set of other layers is not ruled out"
    SUFFICIENT = "it restores the metric; the budget ended before it could be made minimal"
    HOPELESS = "returning every layer does not restore the metric"


@dataclass(frozen=True)
class Bisection:
    """A set of layers, and every evaluation that led to it."""

    goal: Goal
    candidates: tuple[str, ...]  # all layers that could be returned, in order of execution
    layers: tuple[str, ...]  # to return; empty where there is nothing to do, or nothing helps
    certainty: Certainty
    ruled_out: int  # every set of up to so many layers was evaluated and does not restore
    trials: tuple[Trial, ...]  # in the order in which they were made
    budget: int

    @property
    def restored(self) -> bool:
        """Whether `layers` restore the metric; true as well where none needs to be returned."""
        return self.certainty is not Certainty.HOPELESS

    @property
    def evaluations(self) -> int:
        """How often the metric was evaluated."""
        return len(self.trials)

    @property
    def metric(self) -> float:
        """The metric with `layers` returned."""
        return self._metric_with(self.layers)

    @property
    def metric_before(self) -> float:
        """The metric with no layer returned."""
        return self._metric_with(())

    def _metric_with(self, layers: tuple[str, ...]) -> float:
        return next(trial.metric for trial in self.trials if trial.layers == layers)

    def as_json(self) -> dict[str, Any]:
        """Plain data under a schema; a metric that is NaN becomes null."""
        facts = asdict(self)
        trials = [
            {**trial, "metric": trial["metric"] if math.isfinite(trial["metric"]) else None}
            for trial in facts["trials"]
        ]
        metric = self.metric if math.isfinite(self.metric) else None
        found = {"restored": self.restored, "evaluations": self.evaluations, "metric": metric}
        certainty = self.certainty.value
        return {"schema": SCHEMA, **facts, "certainty": certainty, "trials": trials, **found}


def smallest_set(
    layers: Sequence[str],
    metric: Callable[[frozenset[str]], float],
    goal: Goal,
    *,
    budget: int,
    suspects: Sequence[str] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
    known: Mapping[frozenset[str], float] = MappingProxyType({}),
) -> Bisection:
    """Find few layers whose return brings `metric` back within the tolerance of `goal`.

    `metric` is that of the model with the given layers returned, of which more is better.
    `suspects` are layers in the order in which one would return them, the most damaging first (by
    drift, or by sensitivity): the shortest prefix that restores is found by halving, then reduced
    by delta debugging to a set that no member can leave, then every smaller set is tried as far as
    the budget goes. A wrong order costs evaluations and never a wrong answer. The same arguments
    always give the same trials. Sets whose metric is `known`, as that of the goal's reference may
    be, are the first trials, and the budget counts them. Raises UsageError for no layers, unknown
    suspects, a tolerance below zero, or a budget below 2.
    """
    _check(layers, suspects, goal, budget)
    trials = Trials(tuple(layers), metric, goal, budget=budget, on_trial=on_trial, known=known)
    if trials.restores(()):
        return _result(trials, goal, (), Certainty.UNNEEDED, 0, budget)
    if not trials.restores(layers):
        return _result(trials, goal, (), Certainty.HOPELESS, 0, budget)
    found = [tuple(layers)]
    certainty = Certainty.SUFFICIENT
    ruled_out = 0
    try:
        ordered = tuple(dict.fromkeys((*suspects, *layers)))
        prefix = _shortest_prefix(ordered, trials, found) if suspects else ordered
        minimal = ddmin(prefix, trials.restores, on_smaller=found.append)
        found.append(minimal)
        certainty = Certainty.MINIMAL
        ruled_out, smaller = _smaller(minimal, trials)
        if smaller or ruled_out == len(minimal) - 1:
            found.append(smaller or minimal)
            certainty = Certainty.SMALLEST
    except BudgetSpent:
        pass  # the certainty says what is known
    return _result(trials, goal, found[-1], certainty, ruled_out, budget)


def _shortest_prefix(
    ordered: tuple[str, ...], trials: Trials, found: list[tuple[str, ...]]
) -> tuple[str, ...]:
    """A prefix that restores while one layer less does not, by halving."""
    fails, restores = 0, len(ordered)
    while restores - fails > 1:
        middle = (fails + restores) // 2
        if trials.restores(ordered[:middle]):
            restores = middle
            found.append(ordered[:middle])
        else:
            fails = middle
    return ordered[:restores]


def _smaller(minimal: tuple[str, ...], trials: Trials) -> tuple[int, tuple[str, ...]]:
    """How large the sets are that are all ruled out, and the first smaller one that restores.

    A size is begun only if the budget has room for all sets of it: some of them prove nothing.
    """
    for size in range(1, len(minimal)):
        sets = list(combinations(trials.layers, size)) if _affordable(size, trials) else []
        if sum(not trials.knows(each) for each in sets) > trials.left or not sets:
            return size - 1, ()
        for each in sets:
            if trials.restores(each):
                return size - 1, each
    return len(minimal) - 1, ()


def _affordable(size: int, trials: Trials) -> bool:
    """Before billions of combinations are listed: those already known are at most all trials."""
    return math.comb(len(trials.layers), size) <= trials.left + len(trials.done)


def _result(
    trials: Trials,
    goal: Goal,
    layers: tuple[str, ...],
    certainty: Certainty,
    ruled_out: int,
    budget: int,
) -> Bisection:
    ordered = tuple(name for name in trials.layers if name in layers)
    return Bisection(goal, trials.layers, ordered, certainty, ruled_out, trials.done, budget)


def _check(layers: Sequence[str], suspects: Sequence[str], goal: Goal, budget: int) -> None:
    if not layers:
        raise UsageError(
            "bisecting",
            expected="layers that can be returned to float",
            found="none",
            remedy="bisect a model that was compressed",
        )
    unknown = [name for name in suspects if name not in layers]
    if unknown:
        raise UsageError(
            "bisecting",
            expected="suspects among the layers",
            found=unknown[0],
            remedy=f"layers look like {layers[0]!r}",
        )
    if not goal.tolerance >= 0:
        raise UsageError(
            "bisecting",
            expected="a tolerance of at least 0",
            found=f"{goal.tolerance:g}",
            remedy="give the drop of the metric that is accepted",
        )
    if budget < _LEAST_BUDGET:
        raise UsageError(
            "bisecting",
            expected=f"a budget of at least {_LEAST_BUDGET} evaluations",
            found=f"{budget}",
            remedy="allow more",
        )
