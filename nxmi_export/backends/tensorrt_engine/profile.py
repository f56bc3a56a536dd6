"""The batch sizes and sequence lengths an engine is built for.

Written `min=1x8,opt=32x128,max=64x512`, each shape as batch × sequence. Kernels are chosen for
`opt`; anything outside min…max is refused at run time.
"""

import re
from dataclasses import dataclass
from typing import Any, Self

from nxmi_export.errors import ShapeError

__all__ = ["FixedSides", "Shape", "ShapeProfile"]

_TEXT = re.compile(r"min=(\d+)x(\d+),opt=(\d+)x(\d+),max=(\d+)x(\d+)")
_EXAMPLE = "min=1x8,opt=32x128,max=64x512"

OPT_BATCH, OPT_SEQUENCE = 32, 128  # sparse kernels beat dense ones only in large GEMMs
MAX_BATCH = 64
INT8_ATTENTION_LIMIT = 512  # tokens; TensorRT fuses INT8 attention up to here


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape (batch, sequence) of every model input."""

    batch: int
    sequence: int  # tokens

    def __str__(self) -> str:
        return f"{self.batch}x{self.sequence}"


@dataclass(frozen=True, slots=True)
class FixedSides:
    """What a graph fixes of the shape of its inputs; None is left open."""

    batch: int | None = None
    sequence: int | None = None  # tokens


_OPEN = FixedSides()


@dataclass(frozen=True, slots=True)
class ShapeProfile:
    """Three shapes that the model can run, each side of them in order min <= opt <= max.

    Raises ShapeError otherwise. TensorRT builds a profile beyond the model's position table, with
    a warning at most, and then reads outside it, so `position_limit` is part of every profile.
    """

    min: Shape
    opt: Shape
    max: Shape
    position_limit: int | None  # tokens; None where the graph has no table to show it

    def __post_init__(self) -> None:
        sides = {
            "batch": (self.min.batch, self.opt.batch, self.max.batch),
            "sequence": (self.min.sequence, self.opt.sequence, self.max.sequence),
        }
        for side, (low, middle, high) in sides.items():
            if not 1 <= low <= middle <= high:
                raise ShapeError(
                    f"shapes {self}",
                    expected=f"1 <= min <= opt <= max for the {side}",
                    found=f"min {low}, opt {middle}, max {high}",
                    remedy=f"write them in order, as in {_EXAMPLE}",
                )
        if self.position_limit is not None and self.max.sequence > self.position_limit:
            raise ShapeError(
                f"shapes {self}",
                expected=f"at most {self.position_limit} tokens, the model's position table",
                found=f"a maximum of {self.max.sequence}",
                remedy=f"lower the maximum sequence to {self.position_limit} or less",
            )

    @classmethod
    def parse(cls, text: str, *, position_limit: int | None) -> Self:
        """Read `min=BxS,opt=BxS,max=BxS`."""
        match = _TEXT.fullmatch(text.replace(" ", ""))
        if match is None:
            raise ShapeError(
                "shapes",
                expected=f"the form {_EXAMPLE} (batch x sequence)",
                found=repr(text),
                remedy="name all three shapes in this order",
            )
        numbers = [int(number) for number in match.groups()]
        low, middle, high = (Shape(*numbers[at : at + 2]) for at in (0, 2, 4))
        return cls(low, middle, high, position_limit)

    @classmethod
    def default(cls, *, position_limit: int | None, fixed: FixedSides = _OPEN) -> Self:
        """From one token up to what fused INT8 attention can run, tuned for large batches.

        A side that the graph fixes is kept.
        """
        longest = min(position_limit or INT8_ATTENTION_LIMIT, INT8_ATTENTION_LIMIT)
        low, middle, high = (
            Shape(fixed.batch or batch, fixed.sequence or sequence)
            for batch, sequence in (
                (1, 1),
                (OPT_BATCH, min(OPT_SEQUENCE, longest)),
                (MAX_BATCH, longest),
            )
        )
        return cls(low, middle, high, position_limit)

    def keeps(self, fixed: FixedSides) -> bool:
        """Whether all three shapes have the sides that are fixed."""
        return all(
            fixed.batch in {None, shape.batch} and fixed.sequence in {None, shape.sequence}
            for shape in (self.min, self.opt, self.max)
        )

    def as_json(self) -> dict[str, Any]:
        """Each shape as [batch, sequence]."""
        shapes = {"min": self.min, "opt": self.opt, "max": self.max}
        return {name: [shape.batch, shape.sequence] for name, shape in shapes.items()}

    def __str__(self) -> str:
        return f"min={self.min},opt={self.opt},max={self.max}"
