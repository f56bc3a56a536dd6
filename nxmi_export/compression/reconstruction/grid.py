"""The values a weight may take: any, or the multiples of each row's scale."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from nxmi_export.fake_quantize import IntegerRange, quantize

__all__ = ["Grid", "Snap", "anywhere"]

Snap: TypeAlias = Callable[[Tensor], Tensor]  # one column (out,) to its nearest allowed values


@dataclass(frozen=True, eq=False)
class Grid:
    """Integer multiples of one scale per output row."""

    scale: Tensor  # (out,)
    limits: IntegerRange

    def nearest(self, column: Tensor) -> Tensor:
        """The grid's values next to a column (out,), or to a whole weight (out, in)."""
        codes = quantize(column, self.scale, self.limits, axis=0)
        return (codes.T * self.scale).T if codes.dim() > 1 else codes * self.scale


def anywhere(column: Tensor) -> Tensor:
    """Every value is allowed."""
    return column
