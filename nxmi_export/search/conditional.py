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
from functools import cached_property
from typing import Self

from nxmi_export.search.budget import Budget
from nxmi_export.search.program import QUICK
from nxmi_export.search.sensitivity import Probe, Sensitivity
from nxmi_export.search.solve import Near, solve
from nxmi_export.search.space import Candidate, SearchSpace

__all__ = ["RADII", "Additive", "Marginals", "changes_of", "improvements"]

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
class Additive:
    """A prediction in which changes do not interact: it serves to order candidates.

    Far from where the changes were measured it may even fall below 0.
    """

    base: float
    changes: Mapping[tuple[str, str], float]  # by group and scheme

    @classmethod
    def mean(cls, others: Sequence[Self]) -> Self:
        """The mean of several predictions of one space, itself one."""
        changes = {
            key: math.fsum(each.changes[key] for each in others) / len(others)
            for key in others[0].changes
        }
        return cls(math.fsum(each.base for each in others) / len(others), changes)

    def of(self, space: SearchSpace, candidate: Candidate) -> float:
        """The divergence of `candidate`."""
        pairs = zip(space.groups, candidate.schemes, strict=True)
        return self.base + math.fsum(self.changes[group.name, text] for group, text in pairs)


@dataclass(frozen=True)
class Marginals:
    """All of `changes_of` around one candidate, measured."""

    space: SearchSpace
    centre: Candidate
    measured: Mapping[Probe, Sensitivity]

    @cached_property
    def additive(self) -> Additive:
        """What the changes add to the divergence of the centre; negative where they help."""
        base = self.measured[changes_of(self.space, self.centre)[0]].divergence
        changes = {
            (group.name, text): 0.0
            if text == present
            else self.measured[Probe(group.name, text)].divergence - base
            for group, present in zip(self.space.groups, self.centre.schemes, strict=True)
            for text in group.by_text
        }
        return Additive(base, changes)

    @property
    def losses(self) -> dict[tuple[str, str], float]:
        """By linear and scheme, what the change adds; a group's linears share it equally."""
        return {
            (linear, text): self.additive.changes[group.name, text] / len(group.linears)
            for group in self.space.groups
            for text in group.by_text
            for linear in group.linears
        }

    def predicted(self, candidate: Candidate) -> float:
        """The divergence of `candidate` if its changes from the centre did not interact."""
        return self.additive.of(self.space, candidate)


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
