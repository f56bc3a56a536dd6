"""Which models are timed, with how many threads, and at which shapes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nxmi_export.latency import Workload

__all__ = ["MODELS", "SHAPES", "THREADS", "Cell", "cell_named", "cells"]

Model = Literal["bert-base", "minilm"]

MODELS: dict[Model, str] = {
    "bert-base": "BERT-base, random weights",
    "minilm": "MiniLM-L6, fine-tuned on MRPC and compressed without training",
}
THREADS = (2, 1)
SHAPES = (Workload(1, 128), Workload(8, 128), Workload(32, 64))


@dataclass(frozen=True)
class Cell:
    """One run of bench, inside which alone ratios mean something."""

    model: Model
    threads: int

    @property
    def name(self) -> str:
        """The name of its result file, without the suffix."""
        return f"{self.model}_{self.threads}"

    @property
    def threads_told(self) -> str:
        """In words."""
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"


def cells() -> Iterator[Cell]:
    """Every cell, one model after the other."""
    for model in MODELS:
        for threads in THREADS:
            yield Cell(model, threads)


def cell_named(name: str) -> Cell:
    """The cell whose result file is `name`; raises SystemExit for another name."""
    for cell in cells():
        if cell.name == name:
            return cell
    raise SystemExit(f"{name}: no such cell; --list names them")
