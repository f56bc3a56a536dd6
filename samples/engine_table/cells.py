"""Which engines are built, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nxmi_export.artefact import FP16_MODEL, MODEL

__all__ = ["CAPABILITIES", "GRAPHS", "MODELS", "PLACEMENTS", "Cell", "cell_named", "cells"]

Model = Literal["minilm", "bert-base"]
Precision = Literal["fp32", "fp16"]

MODELS: dict[Model, str] = {
    "minilm": "MiniLM-L6, fine-tuned and compressed on MRPC",
    "bert-base": "BERT-base, random weights",
}
GRAPHS: dict[Precision, str] = {"fp32": MODEL, "fp16": FP16_MODEL}
PLACEMENTS = ("attention", "sparse")
CAPABILITIES = ("sm80", "sm86", "sm89", "sm120")  # A100, A10 and RTX 30, L4 and RTX 40, RTX 50


@dataclass(frozen=True)
class Cell:
    """One build."""

    model: Model
    precision: Precision  # of what is not INT8
    placement: str
    capability: str

    @property
    def name(self) -> str:
        """The name of its result file, without the suffix."""
        return f"{self.model}_{self.precision}_{self.placement}_{self.capability}"

    @property
    def graph(self) -> str:
        """The file of the artefact that it builds."""
        return GRAPHS[self.precision]


def cells() -> Iterator[Cell]:
    """Every cell, one artefact after the other."""
    for model in MODELS:
        for placement in PLACEMENTS:
            for precision in GRAPHS:
                for capability in CAPABILITIES:
                    yield Cell(model, precision, placement, capability)


def cell_named(name: str) -> Cell:
    """The cell whose result file is `name`; raises SystemExit for another name."""
    for cell in cells():
        if cell.name == name:
            return cell
    raise SystemExit(f"{name}: no such cell; --list names them")
