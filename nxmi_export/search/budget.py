"""All limits of what a compressed model may cost, and which candidates keep them."""

from dataclasses import dataclass

from nxmi_export.errors import UsageError
from nxmi_export.search.limits import LatencyBudget, SizeBudget
from nxmi_export.search.program import EXACT, QUICK, Effort, Program
from nxmi_export.search.space import Candidate, SearchSpace

__all__ = ["Budget", "LatencyBudget", "SizeBudget", "check_feasible", "check_listable", "feasible"]

MAX_LISTED = 2_000_000  # candidates to look at one by one; the solver has no such limit


@dataclass(frozen=True)
class Budget:
    """What a candidate must keep; at least one limit is given."""

    size: SizeBudget | None = None
    latency: LatencyBudget | None = None

    def __post_init__(self) -> None:
        if not self.limits:
            raise UsageError(
                "budget of the search",
                expected="a target size or a latency",
                found="neither",
                remedy="give one of them, or both",
            )

    @property
    def limits(self) -> tuple[SizeBudget | LatencyBudget, ...]:
        """Those that are given."""
        return tuple(limit for limit in (self.size, self.latency) if limit is not None)

    def admits(self, space: SearchSpace, candidate: Candidate) -> bool:
        """Whether the candidate keeps every limit."""
        return all(limit.admits(space, candidate) for limit in self.limits)

    def describe(self) -> str:
        """As in "at most 0.125 of the float32 size with metadata and 12 ms on a100 (measured)"."""
        return f"at most {' and '.join(limit.describe() for limit in self.limits)}"


def feasible(space: SearchSpace, budget: Budget) -> list[Candidate]:
    """Every candidate within `budget`, in the order of the space.

    Raises UsageError where there are none, or more to look at than `MAX_LISTED`.
    """
    check_listable(space)
    check_feasible(space, budget)
    return [candidate for candidate in space.candidates() if budget.admits(space, candidate)]


def check_listable(space: SearchSpace) -> None:
    """Raise UsageError where `feasible` would have more to look at than `MAX_LISTED`."""
    if space.size > MAX_LISTED:
        raise UsageError(
            f"search space per {space.granularity}",
            expected=f"at most {MAX_LISTED} candidates to look at one by one",
            found=f"{space.size:.3g}",
            remedy="give fewer schemes, or search per layer, where the solver chooses",
        )


def check_feasible(space: SearchSpace, budget: Budget) -> None:
    """Raise UsageError where no candidate keeps the budget, naming the nearest that one keeps."""
    for limit in budget.limits:
        best = _best(space, limit)
        if not limit.admits(space, best):
            raise _infeasible(
                budget, f"{limit.in_words(limit.of(space, best))} at best", "raise it"
            )
    if budget.size is None or budget.latency is None:
        return
    # One that keeps both is proof enough; only where none is found must the least be known exactly.
    if budget.latency.admits(space, _best(space, budget.latency, budget.size, effort=QUICK)):
        return
    fastest = _best(space, budget.latency, within=budget.size)
    if budget.latency.admits(space, fastest):
        return
    smallest = _best(space, budget.size, within=budget.latency)
    seconds, share = budget.latency.of(space, fastest), budget.size.of(space, smallest)
    raise _infeasible(
        budget,
        f"{budget.latency.in_words(seconds)} at best at this size, and "
        f"{budget.size.in_words(share)} at best at this latency",
        "raise one of the two",
    )


def _best(
    space: SearchSpace,
    limit: SizeBudget | LatencyBudget,
    within: SizeBudget | LatencyBudget | None = None,
    *,
    effort: Effort = EXACT,
) -> Candidate:
    """The candidate that takes least of `limit`, among those that keep `within`, which exist."""
    program = Program(space, effort=effort)
    rows = [] if within is None else [within.row(within.cost(program))]
    best = program.minimize(
        limit.cost(program), rows, lambda found: within is None or within.admits(space, found)
    )
    assert best is not None
    return best.candidate


def _infeasible(budget: Budget, found: str, remedy: str) -> UsageError:
    return UsageError(
        "budget of the search",
        expected=f"a candidate of {budget.describe()}",
        found=found,
        remedy=f"{remedy}, or allow smaller or faster schemes",
    )
