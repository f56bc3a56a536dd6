"""A loss for every linear and scheme in, the candidates of least total loss within a budget out.

The loss of a candidate is the sum over its linears. By default the answer is exact: no candidate
within the budget has a smaller sum than the last one listed and is missing, up to 1e-9 of the
widest difference that one choice makes. Closer ones count as equal and come in the order of their
texts. With less effort each is the best of what the ones before it leave, up to the gap that it
tells.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nxmi_export.errors import UsageError
from nxmi_export.search.budget import Budget, check_feasible
from nxmi_export.search.program import EXACT, SCALE, Coefficients, Effort, Minimum, Program, Row
from nxmi_export.search.size import size_of
from nxmi_export.search.space import Candidate, SearchSpace

__all__ = ["Losses", "Near", "Solution", "loss_of", "solve"]

Losses = Mapping[tuple[str, str], float]
"""By linear (module name) and scheme (as a recipe writes it); any unit, any sign."""

_EQUAL = 1e-9 * SCALE  # ten times what HiGHS leaves open, in scaled costs
_MET = 16  # excluded candidates to meet one by one, before all of them become conditions


@dataclass(frozen=True)
class Near:
    """Candidates that differ from `candidate` in at most `changes` groups."""

    candidate: Candidate
    changes: int


@dataclass(frozen=True)
class Solution:
    """One candidate and what it costs."""

    candidate: Candidate
    loss: float  # in the unit of the losses
    size: float  # share of the float32 size, counted as the budget counts it, else with metadata
    seconds: float | None  # of a latency budget's model
    # the share of what it costs above the least option of each group by which another may be lower
    gap: float


def solve(
    space: SearchSpace,
    losses: Losses,
    budget: Budget,
    *,
    count: int = 1,
    excluded: frozenset[Candidate] = frozenset(),
    near: Near | None = None,
    effort: Effort = EXACT,
) -> list[Solution]:
    """The `count` candidates of least loss within `budget`, best first; fewer if there are fewer.

    None of `excluded` is among them, and none that is not `near`. Raises UsageError for a loss that
    is missing or not finite and for a budget that no candidate keeps, and InternalError where the
    solver finds nothing that is good enough for `effort` in time.
    """
    _check_losses(space, losses)
    check_feasible(space, budget)
    program = Program(space, effort=effort)
    rows = [limit.row(limit.cost(program)) for limit in budget.limits]
    rows += [program.near(near.candidate, near.changes)] if near else []
    found = _Enumeration(program, _cost(program, losses), rows, budget, excluded)
    solutions = [_solution(space, each, losses, budget) for each in itertools.islice(found, count)]
    if effort != EXACT:  # a gap may have the better one come later
        solutions.sort(key=lambda each: (each.loss, each.candidate))
    return solutions


def loss_of(space: SearchSpace, candidate: Candidate, losses: Losses) -> float:
    """The sum over the candidate's linears, rounded once."""
    return math.fsum(
        losses[linear, text]
        for group, text in zip(space.groups, candidate.schemes, strict=True)
        for linear in group.linears
    )


class _Enumeration:
    """The candidates of a program from the least cost up."""

    def __init__(
        self,
        program: Program,
        cost: Coefficients,
        rows: Sequence[Row],
        budget: Budget,
        excluded: Collection[Candidate],
    ) -> None:
        self._program = program
        self._cost = cost
        self._rows = list(rows)
        self._admits = partial(budget.admits, program.space)
        self._excluded = set(excluded)
        self._met = 0

    def __iter__(self) -> Iterator[Minimum]:
        return self._in_order() if self._program.effort == EXACT else self._one_by_one()

    def _one_by_one(self) -> Iterator[Minimum]:
        while (least := self._minimum(self._cost)) is not None:
            self._rows.append(self._program.without(least.candidate))
            yield least

    def _in_order(self) -> Iterator[Minimum]:
        least = self._minimum(self._cost)
        while least is not None:
            following = self._minimum(self._cost, self._program.without(least.candidate))
            first = least
            if following is not None and self._of(following) - self._of(least) <= _EQUAL:
                first = self._first_as_good_as(least)
            self._rows.append(self._program.without(first.candidate))
            yield first
            least = following if first == least else least

    def _first_as_good_as(self, least: Minimum) -> Minimum:
        """The first in the order of texts, found group by group."""
        rows, first = [Row(self._cost, high=self._of(least) + _EQUAL)], least
        for index, columns in enumerate(self._program.choices):
            texts = sorted(columns)
            if first.candidate.schemes[index] != texts[0]:
                ranks = {columns[text]: float(rank) for rank, text in enumerate(texts)}
                found = self._minimum(ranks, *rows)
                assert found is not None  # `first` is one
                first = found
            rows.append(Row({columns[first.candidate.schemes[index]]: 1.0}, low=1))
        return first

    def _minimum(self, cost: Coefficients, *rows: Row) -> Minimum | None:
        while True:
            found = self._program.minimize(cost, [*self._rows, *rows], self._admits)
            if found is None or found.candidate not in self._excluded:
                return found
            self._pass_over(found.candidate)

    def _pass_over(self, found: Candidate) -> None:
        """Thousands of conditions make each solve slow, and most excluded ones never come up."""
        self._met += 1
        passed = sorted(self._excluded) if self._met > _MET else [found]
        self._rows += map(self._program.without, passed)
        self._excluded.difference_update(passed)

    def _of(self, minimum: Minimum) -> float:
        pairs = zip(self._program.choices, minimum.candidate.schemes, strict=True)
        return math.fsum(self._cost[columns[text]] for columns, text in pairs)


def _cost(program: Program, losses: Losses) -> Coefficients:
    """The loss of every choice above the group's least, such that the widest is `SCALE`."""
    cost: dict[int, float] = {}
    for group, columns in zip(program.space.groups, program.choices, strict=True):
        of_choice = {
            column: math.fsum(losses[linear, text] for linear in group.linears)
            for text, column in columns.items()
        }
        least = min(of_choice.values())
        cost |= {column: loss - least for column, loss in of_choice.items()}
    widest = max(cost.values()) or 1.0
    return {column: loss * (SCALE / widest) for column, loss in cost.items()}


def _solution(space: SearchSpace, minimum: Minimum, losses: Losses, budget: Budget) -> Solution:
    candidate, metadata = minimum.candidate, budget.size is None or budget.size.metadata
    return Solution(
        candidate,
        loss=loss_of(space, candidate, losses),
        size=size_of(space, candidate, metadata=metadata),
        seconds=budget.latency.of(space, candidate) if budget.latency else None,
        gap=minimum.gap,
    )


def _check_losses(space: SearchSpace, losses: Losses) -> None:
    for group in space.groups:
        for linear in group.linears:
            for text in group.by_text:
                loss = losses.get((linear, text), math.nan)
                if not math.isfinite(loss):
                    raise UsageError(
                        f"loss of {linear} as {text}",
                        expected="a finite number",
                        found=f"{loss}" if (linear, text) in losses else "none",
                        remedy="measure it again, or leave the scheme out",
                    )
