"""A space in, a 0-1 linear program over it out, which HiGHS solves as far as an effort has it.

There is one column for every group and option, of which a solution takes one per group. Callers
may add columns and rows of their own: see `seconds_of`.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csr_array

from nxmi_export.errors import InternalError
from nxmi_export.recipe.scheme import DENSE_BITS
from nxmi_export.search.size import bits_of
from nxmi_export.search.space import Candidate, SearchSpace

__all__ = [
    "EXACT",
    "QUICK",
    "SCALE",
    "THOROUGH",
    "Coefficients",
    "Effort",
    "Minimum",
    "Program",
    "Row",
    "at_most",
]

Coefficients = Mapping[int, float]  # by column; the others are 0

# HiGHS stops within 1e-6 of the optimum and of every limit, absolutely. Costs and limits of this
# size make that 1e-10 of them.
SCALE = 1e4
_OPTIMAL, _INFEASIBLE = 0, 2  # of scipy's OptimizeResult.status
_MOST_PASSED = 20  # solutions at the edge of a limit, each of which costs one more solve


@dataclass(frozen=True)
class Row:
    """low ≤ coefficients · columns ≤ high."""

    coefficients: Coefficients
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Effort:
    """When the solver may stop before it has proved an optimum; `EXACT`: never.

    `gap` is relative. `nodes` limits its tree, and then the best found so far counts: unlike a
    limit of time this gives the same answer on every machine and at every load. What takes more
    than `seconds` is an error.
    """

    gap: float = 0.0
    nodes: int | None = None
    seconds: float = 60.0

    @property
    def options(self) -> dict[str, float]:
        """As scipy calls them."""
        options = {"mip_rel_gap": self.gap, "time_limit": self.seconds}
        return options if self.nodes is None else {**options, "node_limit": self.nodes}


EXACT = Effort()
# Of 72 groups under both limits nearly all solve at the root, and some hundred nodes prove most of
# the others. The last 1e-3 among candidates that differ by nothing can take minutes; these take ten
# seconds or so, and never the time that would be an error.
THOROUGH = Effort(nodes=2000, seconds=600.0)
# For what is solved again and again. Predictions are off by far more than this gap.
QUICK = Effort(gap=1e-3, nodes=200)


@dataclass(frozen=True)
class Minimum:
    """A candidate of least cost, as far as that is proved."""

    candidate: Candidate
    gap: float  # the share of its cost by which another's may be lower; 0: by none


class Program:
    """0-1 columns and rows; what a solution costs is given to `minimize`."""

    def __init__(self, space: SearchSpace, *, effort: Effort = EXACT) -> None:
        self.space = space
        self.effort = effort
        numbers = itertools.count()
        self._choices = [{text: next(numbers) for text in each.by_text} for each in space.groups]
        self._count = next(numbers)
        self._rows = [Row(dict.fromkeys(each.values(), 1.0), 1, 1) for each in self._choices]

    @property
    def choices(self) -> Sequence[Mapping[str, int]]:
        """For every group, the columns of its options."""
        return self._choices

    def add_column(self) -> int:
        """One more, 0 or 1."""
        self._count += 1
        return self._count - 1

    def add_row(self, row: Row) -> None:
        """One more condition that every solution meets."""
        self._rows.append(row)

    def size(self, *, metadata: bool) -> Coefficients:
        """What every choice adds to `size_of`."""
        dense = DENSE_BITS * self.space.weights
        return {
            column: group.weights * bits_of(group.by_text[text], metadata=metadata) / dense
            for group, columns in zip(self.space.groups, self._choices, strict=True)
            for text, column in columns.items()
        }

    def without(self, candidate: Candidate) -> Row:
        """The condition that a solution is another one."""
        pairs = zip(self._choices, candidate.schemes, strict=True)
        columns = [columns[text] for columns, text in pairs]
        return Row(dict.fromkeys(columns, 1.0), high=len(columns) - 1)

    def near(self, candidate: Candidate, changes: int) -> Row:
        """The condition that a solution differs from it in at most `changes` groups."""
        kept = self.without(candidate).coefficients
        return Row(kept, low=len(kept) - changes)

    def minimize(
        self,
        cost: Coefficients,
        rows: Sequence[Row] = (),
        admits: Callable[[Candidate], bool] = lambda candidate: True,
    ) -> Minimum | None:
        """The candidate of least cost that meets every row and is admitted; None if there is none.

        As close to the least as the effort has it; no cost is below 0. `admits` decides exactly
        what the rows do up to rounding. Raises InternalError where the solver gives up.
        """
        conditions = [*self._rows, *rows]
        for _ in range(_MOST_PASSED):
            found = self._solution(cost, conditions)
            if found is None or admits(found.candidate):
                return found
            conditions.append(self.without(found.candidate))
        raise InternalError(
            "solver of the search",
            expected="a candidate within the budget",
            found=f"{_MOST_PASSED} in a row that miss it by rounding",
            remedy="raise or lower the budget by a thousandth",
        )

    def _solution(self, cost: Coefficients, rows: Sequence[Row]) -> Minimum | None:
        effort = self.effort
        result = self._solved(cost, rows, effort)
        is_proved = result.status in (_OPTIMAL, _INFEASIBLE)
        if not is_proved and result.x is None and effort.nodes is not None:
            # Whether anything keeps the rows is no matter of effort; how good it is remains one.
            effort = replace(effort, gap=max(effort.gap, QUICK.gap), nodes=None)
            result = self._solved(cost, rows, effort)
        if result.status == _INFEASIBLE:
            return None
        # Which status a full tree has depends on the release of scipy.
        nodes_done = effort.nodes is not None and (result.mip_node_count or 0) >= effort.nodes
        if result.status != _OPTIMAL and not (nodes_done and result.x is not None):
            raise InternalError(
                "solver of the search",
                expected=f"the optimum within {effort.seconds:g} seconds",
                found=f"status {result.status} of HiGHS ({result.message})",
                remedy="search with fewer schemes or per component",
            )
        taken = result.x > 0.5  # 0 or 1, up to the solver's tolerance
        candidate = Candidate(
            tuple(
                next(text for text, column in columns.items() if taken[column])
                for columns in self._choices
            )
        )
        is_proved = result.status == _OPTIMAL and not effort.gap
        # Where HiGHS knows no bound yet its gap is infinite.
        return Minimum(candidate, 0.0 if is_proved else min(float(result.mip_gap), 1.0))

    def _solved(self, cost: Coefficients, rows: Sequence[Row], effort: Effort) -> OptimizeResult:
        return milp(
            _scaled(cost, self._count),
            integrality=np.ones(self._count),
            bounds=Bounds(0, 1),
            constraints=_constraint(rows, self._count),
            options=effort.options,
        )


def at_most(coefficients: Coefficients, limit: float) -> Row:
    """A limit in any unit, to which candidates at its edge keep up to rounding: ask `admits`."""
    scale = SCALE / limit
    scaled = {column: value * scale for column, value in coefficients.items()}
    return Row(scaled, high=SCALE * (1 + 1e-9))


def _scaled(cost: Coefficients, count: int) -> npt.NDArray[np.float64]:
    values = np.zeros(count)
    for column, value in cost.items():
        values[column] = value
    largest = np.abs(values).max()
    return values * (SCALE / largest) if largest else values


def _constraint(rows: Sequence[Row], count: int) -> LinearConstraint:
    entries = [
        (number, column, value)
        for number, row in enumerate(rows)
        for column, value in row.coefficients.items()
    ]
    numbers, columns, values = zip(*entries, strict=True)
    matrix = csr_array((values, (numbers, columns)), shape=(len(rows), count))
    return LinearConstraint(matrix, [row.low for row in rows], [row.high for row in rows])
