"""Sets of layers in, the metric of each out: evaluated once, counted, and within a budget."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["BudgetSpent", "Goal", "Trial", "Trials"]

ROUNDING = 1e-9  # differences of scores that are equal on paper


@dataclass(frozen=True)
class Goal:
    """What counts as restored, of a metric of which more is better."""

    reference: float  # the metric before it fell
    tolerance: float  # the drop that is accepted

    def met_by(self, metric: float) -> bool:
        """Whether `metric` is within the tolerance; NaN is not."""
        return metric >= self.reference - self.tolerance - ROUNDING


@dataclass(frozen=True)
class Trial:
    """One evaluated set."""

    layers: tuple[str, ...]  # returned to float, in order of execution
    metric: float
    restores: bool


class BudgetSpent(Exception):
    """No evaluation is left; what was found before still holds."""


class Trials:
    """Evaluates sets of `layers`, no set twice and at most `budget` of them.

    Those whose metric is `known` were evaluated before and are trials like all others.
    """

    def __init__(
        self,
        layers: tuple[str, ...],
        metric: Callable[[frozenset[str]], float],
        goal: Goal,
        *,
        budget: int,
        on_trial: Callable[[Trial], None] = lambda trial: None,
        known: Mapping[frozenset[str], float],
    ) -> None:
        self.layers, self._metric, self._goal = layers, metric, goal
        self._budget, self._on_trial = budget, on_trial
        self._known: dict[frozenset[str], Trial] = {}
        for chosen, value in known.items():
            self._record(chosen, value)

    @property
    def done(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they were made."""
        return tuple(self._known.values())

    @property
    def left(self) -> int:
        """How many evaluations the budget still has."""
        return self._budget - len(self._known)

    def knows(self, layers: Iterable[str]) -> bool:
        """Whether this set was evaluated, so that asking again costs nothing."""
        return frozenset(layers) in self._known

    def restores(self, layers: Iterable[str]) -> bool:
        """Whether returning these layers restores the metric; raises BudgetSpent."""
        chosen = frozenset(layers)
        if chosen not in self._known:
            if self.left <= 0:
                raise BudgetSpent
            self._record(chosen, self._metric(chosen))
        return self._known[chosen].restores

    def _record(self, chosen: frozenset[str], metric: float) -> None:
        ordered = tuple(name for name in self.layers if name in chosen)
        self._known[chosen] = Trial(ordered, metric, self._goal.met_by(metric))
        self._on_trial(self._known[chosen])
