"""What is timed: the shapes of linears, also from text like "384x1536,1536x384", and the batch."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from nxmi_export.errors import UsageError

__all__ = ["LinearShape", "Workload", "parse_shapes"]

_SHAPE = re.compile(r"\s*([1-9]\d*)x([1-9]\d*)\s*")


class LinearShape(NamedTuple):
    """The size of one weight."""

    inputs: int  # K
    outputs: int  # N

    def __str__(self) -> str:
        return f"{self.inputs}x{self.outputs}"


@dataclass(frozen=True)
class Workload:
    """What one forward pass is given."""

    batch: int  # examples
    sequence: int  # tokens

    @property
    def rows(self) -> int:
        """What every linear of an encoder sees: one row per token."""
        return self.batch * self.sequence

    def __str__(self) -> str:
        return f"{self.batch}x{self.sequence}"


def parse_shapes(text: str) -> tuple[LinearShape, ...]:
    """Read `INPUTSxOUTPUTS,…`, each shape once, sorted; raises UsageError for anything else."""
    shapes = set()
    for part in text.split(","):
        match = _SHAPE.fullmatch(part)
        if match is None:
            raise UsageError(
                "shapes",
                expected="the form 384x1536,1536x384 (inputs x outputs of each linear)",
                found=repr(text),
                remedy="write whole numbers, and commas between the shapes",
            )
        shapes.add(LinearShape(int(match[1]), int(match[2])))
    return tuple(sorted(shapes))
