"""Which configurations are trained, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nxmi_export.recipe import Scheme

__all__ = ["BUDGETS", "KINDS", "TARGET", "TASKS", "Budget", "Cell", "Kind", "cell_named", "cells"]

Kind = Literal["uniform", "random", "component", "layer"]
Budget = Literal["nominal", "metadata"]

TASKS = ("mrpc", "stsb", "rte")
TARGET = 0.125  # of the encoder linears' float32 size: 87.5 % saved
# The one scheme that fills each budget: 2:4+int8 has 4 bits nominal, and 5 with its indices.
BUDGETS: dict[Budget, Scheme] = {
    "nominal": Scheme.parse("2:4+int8"),
    "metadata": Scheme.parse("int4"),
}
KINDS: tuple[Kind, ...] = ("uniform", "random", "component", "layer")


@dataclass(frozen=True)
class Cell:
    """One configuration of one task under one budget."""

    task: str
    budget: Budget
    kind: Kind

    @property
    def name(self) -> str:
        """The name of its result file, without the suffix."""
        return f"{self.task}_{self.budget}_{self.kind}"


def cells() -> Iterator[Cell]:
    """Every cell, one task and one budget after the other."""
    for task in TASKS:
        for budget in BUDGETS:
            for kind in KINDS:
                yield Cell(task, budget, kind)


def cell_named(name: str) -> Cell:
    """The cell whose result file is `name`; raises SystemExit for another name."""
    for cell in cells():
        if cell.name == name:
            return cell
    raise SystemExit(f"{name}: no such cell; --list names them")
