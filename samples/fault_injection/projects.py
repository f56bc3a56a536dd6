"""The good artefacts that faults are planted in, and the dev set that finds them."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, Manifest
from nxmi_export.glue import Task
from passes.spell_out_products import has_products

__all__ = ["Base", "Given", "Projects", "Unavailable"]


class Base(StrEnum):
    """A kind of good artefact."""

    SPARSE = "sparse"  # the placements, all of 2:4 and INT8
    ATTENTION = "attention"
    LINEAR = "linear"
    FLOAT16 = "sparse with a float16 file"
    TABLES = "sparse with INT8 tables"
    PRODUCTS = "linear with integer products"  # the form that an export may find to be fastest


class Unavailable(Exception):
    """There is no artefact of that kind."""


class Projects(Protocol):
    """Where artefacts come from."""

    @property
    def task(self) -> Task:
        """What the model was trained on."""
        ...

    @property
    def data(self) -> Path:
        """The folder of the task's dev set."""
        ...

    def good(self, base: Base) -> Path:
        """The artefact of `base`; raises Unavailable where there is none."""
        ...

    def other(self) -> Path:
        """An artefact of another checkpoint, of the same shapes; raises Unavailable."""
        ...


@dataclass(frozen=True)
class Given:
    """One artefact that exists, and of the same shapes perhaps another."""

    artefact: Path
    task: Task
    data: Path
    another: Path | None = None

    def good(self, base: Base) -> Path:
        """The artefact, where it is of that kind."""
        manifest = Manifest.read(self.artefact)
        recipe = manifest.recipe or {}
        kinds = {recipe.get("placement")}
        if recipe.get("placement") == Base.SPARSE:
            kinds |= {Base.FLOAT16} if FP16_MODEL in manifest.files else set()
            kinds |= {Base.TABLES} if recipe.get("embeddings") == "int8" else set()
        if recipe.get("placement") == Base.LINEAR and has_products(
            ir.load(self.artefact / CPU_MODEL)
        ):
            kinds |= {Base.PRODUCTS}
        if base not in kinds:
            raise Unavailable(base)
        return self.artefact

    def other(self) -> Path:
        """The other artefact."""
        if self.another is None:
            raise Unavailable("another checkpoint")
        return self.another
