"""Sensitivities and a candidate in, a better one near it out, interactions counted.

The solver minimizes a sum, and changes of several weights do more or less than their sum. From its
optimum, or any other candidate, this goes downhill on the sum plus the interactions: at each step
the best change of one or two groups that the budget admits, until none helps.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nxmi_export.search.budget import Budget
from nxmi_export.search.sensitivity import Sensitivities
from nxmi_export.search.space import Candidate, SearchSpace

__all__ = ["refined"]

# A step must gain more than what rounding makes of no gain, or two candidates could alternate.
_LEAST_GAIN = 1e-12

_Choice = NDArray[np.int64]  # (groups,) the option of each, as a row of `_Landscape`


def refined(sensitivities: Sensitivities, budget: Budget, start: Candidate) -> Candidate:
    """Where `start`, which the budget admits, leads; itself where no step helps."""
    landscape = _Landscape.of(sensitivities)
    choice = landscape.choice(start)
    while (better := _step(landscape, budget, choice)) is not None:
        choice = better
    return landscape.candidate(choice)


@dataclass(frozen=True)
class _Landscape:
    """The predicted divergence of a choice x as Σ losses[x] + Σ_{g≠h} products[x_g, x_h].

    Rows are all options of all groups, one group after the other.
    """

    space: SearchSpace
    groups: NDArray[np.int64]  # (rows,) the group of each
    texts: tuple[str, ...]  # (rows,) its scheme
    losses: NDArray[np.float64]  # (rows,)
    products: NDArray[np.float64]  # (rows, rows), 0 within a group

    @classmethod
    def of(cls, sensitivities: Sensitivities) -> Self:
        space = sensitivities.space
        keys = [(group.name, text) for group in space.groups for text in group.by_text]
        counts = [len(group.by_text) for group in space.groups]
        groups = np.repeat(np.arange(len(counts)), counts)
        effects = np.stack([sensitivities.curvature.effects[key] for key in keys])
        products = effects @ effects.T
        products[groups[:, None] == groups[None, :]] = 0.0
        texts = tuple(text for _, text in keys)
        return cls(
            space, groups, texts, np.array([sensitivities.of(*key) for key in keys]), products
        )

    def choice(self, candidate: Candidate) -> _Choice:
        rows = {(group, text): row for row, (group, text) in enumerate(self._keys())}
        return np.array([rows[each] for each in enumerate(candidate.schemes)], np.int64)

    def candidate(self, choice: _Choice) -> Candidate:
        return Candidate(tuple(self.texts[row] for row in choice))

    def gains(self, choice: _Choice) -> NDArray[np.float64]:
        """(rows, rows): what taking the options of both rows changes; infinite within a group.

        The row of a group's present option changes nothing, so pairs with it are single changes.
        """
        present = choice[self.groups]  # of each row, the present option of its group
        pull = self.losses + 2 * self.products[:, choice].sum(axis=1)
        single = pull - pull[present]
        both = self.products - self.products[:, present]
        gains = single[:, None] + single[None, :] + 2 * (both - both[present])
        gains[self.groups[:, None] == self.groups[None, :]] = np.inf
        return np.asarray(gains)

    def _keys(self) -> list[tuple[int, str]]:
        return list(zip(self.groups.tolist(), self.texts, strict=True))


def _step(landscape: _Landscape, budget: Budget, choice: _Choice) -> _Choice | None:
    """The best admitted change of at most two groups; None where none helps."""
    gains = np.triu(landscape.gains(choice))
    order = np.argsort(gains, axis=None, kind="stable")
    for index in order[: int((gains < -_LEAST_GAIN).sum())]:
        changed = choice.copy()
        for row in divmod(int(index), len(gains)):
            changed[landscape.groups[row]] = row
        if budget.admits(landscape.space, landscape.candidate(changed)):
            return changed
    return None
