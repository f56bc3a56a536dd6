"""A space per component and a budget in, every configuration within it out, best hopes first."""

from nxmi_export.search.budget import Budget, feasible
from nxmi_export.search.sensitivity import Sensitivities
from nxmi_export.search.space import Candidate

__all__ = ["promising"]


def promising(sensitivities: Sensitivities, budget: Budget) -> tuple[Candidate, ...]:
    """All that `budget` admits, by their predicted divergence; equals by their schemes.

    The order decides how soon there is a score that most others cannot reach, and nothing else.
    Raises UsageError as `feasible` does.
    """
    candidates = feasible(sensitivities.space, budget)
    return tuple(sorted(candidates, key=lambda c: (sensitivities.with_interactions(c), c)))
