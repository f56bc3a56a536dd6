"""Counted cells of a classification in, limits that hold where few or no predictions changed out.

A bootstrap cannot draw what it has not seen: with no changed prediction every resample has the
difference 0, and with one its lower limit is that of three losses where 4.7 cannot be ruled out.
So the shares of the cells are drawn from a Dirichlet distribution instead (the Bayesian bootstrap:
D. B. Rubin, 1981, Annals of Statistics 9:130-134), with one more example of the worst kind of
change. For a loss of accuracy without gains that is the exact bound of Clopper and Pearson (1934),
a Beta(losses + 1, total − losses) quantile, and the rule of three where nothing changed.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nxmi_export.glue import Task
from nxmi_export.glue.dataset import LabelArray
from nxmi_export.parity.statistics.pairs import Cells
from nxmi_export.parity.statistics.weighted_scores import weighted_differences

__all__ = ["SparseChanges", "sparse_changes", "without_changes"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SparseChanges:
    """Sorted differences, one row for each kind of change that one more example may be of."""

    draws: FloatArray = field(repr=False)  # (kinds, draws), each row ascending

    def limits(self, confidence: float) -> tuple[float, float]:
        """The widest over the kinds; `confidence` is that of each limit alone."""
        low = np.quantile(self.draws, 1 - confidence, axis=1).min()
        high = np.quantile(self.draws, confidence, axis=1).max()
        return float(low), float(high)

    def p_above(self, delta: float) -> float:
        """The p-value of "at most `delta`", the largest over the kinds."""
        return self._share(np.count_nonzero(self.draws <= delta, axis=1))

    def p_below(self, delta: float) -> float:
        """The p-value of "at least `delta`", the largest over the kinds."""
        return self._share(np.count_nonzero(self.draws >= delta, axis=1))

    def _share(self, counts: NDArray[np.intp]) -> float:
        return int(counts.max() + 1) / int(self.draws.shape[1] + 1)


def sparse_changes(
    task: Task, cells: Cells, *, draws: int, generator: np.random.Generator
) -> SparseChanges:
    """Draw shares of the cells once for each kind of change that the data leave room for."""
    rows = [
        _differences(task, _one_more(cells, kind), draws, generator) for kind in _kinds(task, cells)
    ]
    return SparseChanges(np.sort(np.stack(rows), axis=1))


def without_changes(cells: Cells) -> Cells:
    """The same examples as if the candidate had said what the reference says."""
    return replace(cells, candidate=cells.reference)


def _kinds(task: Task, cells: Cells) -> list[tuple[int, int, int]]:
    """(label, reference, other class) of every label and reference class that occur together."""
    present = sorted({(int(y), int(r)) for y, r in zip(cells.labels, cells.reference, strict=True)})
    return [(y, r, c) for y, r in present for c in range(len(task.labels)) if c != r]


def _one_more(cells: Cells, kind: tuple[int, int, int]) -> Cells:
    def longer(values: LabelArray, value: int) -> LabelArray:
        return np.append(values, value)

    label, before, after = kind
    return Cells(
        longer(cells.labels, label),
        longer(cells.reference, before),
        longer(cells.candidate, after),
        np.append(cells.counts, 1),
    )


def _differences(
    task: Task, cells: Cells, draws: int, generator: np.random.Generator
) -> FloatArray:
    # Independent gamma variates, divided by their sum, are Dirichlet.
    shares = generator.standard_gamma(cells.counts, size=(draws, len(cells.counts)))
    return weighted_differences(task, cells, shares)
