"""What single changes of uniform candidates do in, every candidate within a budget out."""

from collections.abc import Sequence

from nxmi_export.search.budget import Budget, feasible
from nxmi_export.search.conditional import Additive, Marginals
from nxmi_export.search.space import Candidate, SearchSpace

__all__ = ["centres", "promising"]


def centres(space: SearchSpace, budget: Budget) -> tuple[Candidate, ...]:
    """What to measure changes of: the uniform candidates within `budget`, else all uniform ones."""
    every = space.uniforms()
    return tuple(each for each in every if budget.admits(space, each)) or every


def promising(around: Sequence[Marginals], budget: Budget) -> dict[Candidate, float]:
    """All that `budget` admits and their predicted divergence, the least first.

    Equals come by their schemes. The order decides how soon there is a score that most others
    cannot reach, and nothing else. Raises UsageError as `feasible` does.
    """
    space, predicted = around[0].space, Additive.mean([each.additive for each in around])
    divergences = {each: predicted.of(space, each) for each in feasible(space, budget)}
    return dict(sorted(divergences.items(), key=lambda item: item[::-1]))
