"""Per-layer sensitivities and a budget in, the few configurations worth scoring out."""

from collections.abc import Callable, Collection, Sequence

from nxmi_export.search.budget import Budget
from nxmi_export.search.program import QUICK
from nxmi_export.search.refine import refined
from nxmi_export.search.sensitivity import Sensitivities
from nxmi_export.search.solve import solve
from nxmi_export.search.space import Candidate

__all__ = ["proposals"]


def proposals(
    sensitivities: Sensitivities,
    budget: Budget,
    count: int,
    *,
    starts: Sequence[Candidate] = (),
    known: Collection[Candidate] = (),
    on_found: Callable[[int], None] = lambda number: None,
) -> tuple[Candidate, ...]:
    """`count` candidates that are not in `known`, or fewer, by their predicted divergence.

    First those to which the solver's optimum and `starts`, which `budget` admits, lead once
    interactions count; then the solver's best, which minimize the sum of sensitivities
    up to the gap of `QUICK`.
    `on_found` hears how many there are so far. Raises UsageError where the budget admits none.
    """
    space, losses = sensitivities.space, sensitivities.losses
    optimum = solve(space, losses, budget, effort=QUICK)[0].candidate
    found: dict[Candidate, None] = {}
    for start in (optimum, *starts):
        better = refined(sensitivities, budget, start)
        if better not in known and len(found) < count:
            found[better] = None
            on_found(len(found))
    excluded = frozenset([*found, *known])
    if len(found) < count:
        wanted = count - len(found)
        more = solve(space, losses, budget, count=wanted, excluded=excluded, effort=QUICK)
        found |= dict.fromkeys(each.candidate for each in more)
        on_found(len(found))
    return tuple(sorted(found, key=lambda c: (sensitivities.with_interactions(c), c)))
