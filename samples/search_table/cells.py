"""Which configurations are trained, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "SEARCHED",
    "TARGET",
    "TASKS",
    "UNIFORM",
    "Budget",
    "Cell",
    "Kind",
    "Searched",
    "Uniform",
    "cell_named",
    "cells",
    "kinds",
]

Uniform = Literal["2:4+int8", "int4"]
Searched = Literal["component", "layer"]
Kind = Uniform | Literal["random"] | Searched
Budget = Literal["nominal", "metadata"]

TASKS = ("mrpc", "stsb", "rte")
TARGET = 0.125  # of the encoder linears' float32 size: 87.5 % saved
# The schemes that fill each budget: both have 4 bits nominal, and 2:4+int8 has 5 with its indices.
UNIFORM: dict[Budget, tuple[Uniform, ...]] = {
    "nominal": ("2:4+int8", "int4"),
    "metadata": ("int4",),
}
SEARCHED: tuple[Searched, ...] = ("component", "layer")


@dataclass(frozen=True)
class Cell:
    """One configuration of one task under one budget."""

    task: str
    budget: Budget
    kind: Kind

    @property
    def name(self) -> str:
        """The name of its result file, without the suffix."""
        return f"{self.task}_{self.budget}_{self.kind.replace(':', '-')}"


def kinds(budget: Budget) -> tuple[Kind, ...]:
    """One scheme everywhere, a random configuration, and the winner of each search."""
    return (*UNIFORM[budget], "random", *SEARCHED)


def cells() -> Iterator[Cell]:
    """Every cell, one task and one budget after the other."""
    for task in TASKS:
        for budget in UNIFORM:
            for kind in kinds(budget):
                yield Cell(task, budget, kind)


def cell_named(name: str) -> Cell:
    """The cell whose result file is `name`; raises SystemExit for another name."""
    for cell in cells():
        if cell.name == name:
            return cell
    raise SystemExit(f"{name}: no such cell; --list names them")
