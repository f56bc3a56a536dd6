"""What single changes of uniform candidates do in, every candidate within a budget out."""

from collections.abc import Sequence

from nxmi_export.search.budget import Budget, feasible
from nxmi_export.search.conditional import Marginals, predicted
from nxmi_export.search.space import Candidate, SearchSpace

__all__ = ["centres", "promising"]


def centres(space: SearchSpace, budget: Budget) -> tuple[Candidate, ...]:
    """The uniform candidates that `budget` admits, else all of them: what to measure changes of."""
    every = space.uniforms()
    return tuple(each for each in every if budget.admits(space, each)) or every


def promising(around: Sequence[Marginals], budget: Budget) -> dict[Candidate, float]:
    """All that `budget` admits and their predicted divergence, the least first.

    Equals come by their schemes. The order decides how soon there is a score that most others
    cannot reach, and nothing else. Raises UsageError as `feasible` does.
    """
    candidates = feasible(around[0].space, budget)
    divergences = {candidate: predicted(around, candidate) for candidate in candidates}
    return dict(sorted(divergences.items(), key=lambda item: item[::-1]))
