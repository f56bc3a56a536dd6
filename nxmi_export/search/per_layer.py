"""Per-layer sensitivities and a budget in, the few configurations worth scoring out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from nxmi_export.search.budget import Budget
from nxmi_export.search.program import QUICK, THOROUGH
from nxmi_export.search.refine import refined
from nxmi_export.search.sensitivity import Sensitivities
from nxmi_export.search.solve import solve
from nxmi_export.search.space import Candidate

__all__ = ["Proposals", "proposals"]


@dataclass(frozen=True)
class Proposals:
    """Candidates by their predicted divergence, interactions counted."""

    candidates: tuple[Candidate, ...]
    gap: float  # of the solver's optimum, as in `Solution`


def proposals(
    sensitivities: Sensitivities,
    budget: Budget,
    count: int,
    *,
    included: Sequence[Candidate] = (),
    starts: Sequence[Candidate] = (),
    known: Collection[Candidate] = (),
    on_found: Callable[[int], None] = lambda number: None,
) -> Proposals:
    """`count` candidates that are not in `known`, or fewer, and `included`.

    First those to which the solver's optimum, of the sum of sensitivities, and `starts`, which
    `budget` admits, lead once interactions count; then the optimum itself, for which the solver is
    `THOROUGH`; then the next best, as far as `QUICK` goes. Those of `included`, which `budget`
    admits, come on top. `on_found` hears how many of the others there are so far. Raises UsageError
    where the budget admits none.
    """
    space, losses = sensitivities.space, sensitivities.losses
    [optimum] = solve(space, losses, budget, effort=THOROUGH)
    led = [refined(sensitivities, budget, each) for each in (optimum.candidate, *starts)]
    found: dict[Candidate, None] = {}
    for each in (*led, optimum.candidate):
        if each not in known and len(found) < count:
            found[each] = None
            on_found(len(found))
    excluded = frozenset([*found, *known, *included])
    if len(found) < count:
        wanted = count - len(found)
        more = solve(space, losses, budget, count=wanted, excluded=excluded, effort=QUICK)
        found |= dict.fromkeys(each.candidate for each in more)
        on_found(len(found))
    found |= dict.fromkeys(each for each in included if each not in known)
    ordered = sorted(found, key=lambda each: (sensitivities.with_interactions(each), each))
    return Proposals(tuple(ordered), optimum.gap)
