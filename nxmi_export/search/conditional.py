"""What each single change of a scored candidate does in, the candidates near it to score next out.

Sensitivities are those of a dense model, and where the budget has everything compressed they say
little: what a change costs depends on what else has changed. Above all, linears that read one value
share the rounding of it, for which the first of them to have bits pays and no other. So the changes
of one group are measured around candidates too. Around the uniform ones they tell which of all
candidates to begin with; around the best one the solver may change a few groups at a time.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from nxmi_export.search.budget import Budget
from nxmi_export.search.program import QUICK
from nxmi_export.search.sensitivity import Probe, Sensitivity
from nxmi_export.search.solve import Near, solve
from nxmi_export.search.space import Candidate, SearchSpace

__all__ = ["RADII", "Marginals", "changes_of", "improvements", "predicted"]

# Groups that the solver may change at a time. Fewer are predicted better, more may lead further;
# under a full budget one change alone rarely fits, as what one group gains another has to give.
RADII = (2, 4, 8)


def changes_of(space: SearchSpace, centre: Candidate) -> tuple[Probe, ...]:
    """Every single change of `centre`, and first `centre` itself, as the option that it has."""
    groups = tuple(zip(space.groups, centre.schemes, strict=True))
    unchanged = Probe(groups[0][0].name, groups[0][1])
    return (
        unchanged,
        *(
            Probe(group.name, text)
            for group, present in groups
            for text in group.by_text
            if text != present
        ),
    )


@dataclass(frozen=True)
class Marginals:
    """All of `changes_of` around one candidate, measured."""

    space: SearchSpace
    centre: Candidate
    measured: Mapping[Probe, Sensitivity]

    @property
    def losses(self) -> dict[tuple[str, str], float]:
        """By linear and scheme, what the change adds to the divergence; negative where it helps.

        The linears of a group share it equally.
        """
        return {
            (linear, text): self._of(group.name, text) / len(group.linears)
            for group in self.space.groups
            for text in group.by_text
            for linear in group.linears
        }

    def predicted(self, candidate: Candidate) -> float:
        """The divergence of `candidate` if its changes from the centre did not interact.

        Far from the centre, below 0 even: it serves to order candidates.
        """
        names = (group.name for group in self.space.groups)
        return self._at_centre + math.fsum(map(self._of, names, candidate.schemes))

    def _of(self, group: str, text: str) -> float:
        if text == self._present[group]:
            return 0.0
        return self.measured[Probe(group, text)].divergence - self._at_centre

    @property
    def _at_centre(self) -> float:
        return self.measured[changes_of(self.space, self.centre)[0]].divergence

    @property
    def _present(self) -> dict[str, str]:
        names = (group.name for group in self.space.groups)
        return dict(zip(names, self.centre.schemes, strict=True))


def predicted(around: Sequence[Marginals], candidate: Candidate) -> float:
    """The mean of what those around several centres predict."""
    return math.fsum(each.predicted(candidate) for each in around) / len(around)


def improvements(
    marginals: Marginals,
    budget: Budget,
    count: int,
    *,
    known: Collection[Candidate] = (),
    on_found: Callable[[int], None] = lambda number: None,
) -> tuple[Candidate, ...]:
    """`count` candidates within `budget` that are not in `known`, or fewer, best hopes first.

    The solver's best within each of `RADII`, as many of each, as far as `QUICK` goes. `on_found`
    hears how many there are so far. Raises UsageError where `budget` admits none at all.
    """
    space, losses = marginals.space, marginals.losses
    found: dict[Candidate, None] = {}
    for number, radius in enumerate(RADII, 1):
        more = solve(
            space,
            losses,
            budget,
            count=count * number // len(RADII) - len(found),
            excluded=frozenset([*known, *found, marginals.centre]),
            near=Near(marginals.centre, radius),
            effort=QUICK,
        )
        found |= dict.fromkeys(each.candidate for each in more)
        on_found(len(found))
    return tuple(sorted(found, key=lambda each: (marginals.predicted(each), each)))
