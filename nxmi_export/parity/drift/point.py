"""What can be watched in a model: points named by PyTorch module, and which numbers are real."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.errors import ShapeError

__all__ = ["Kind", "Observations", "Point", "real_values"]


class Kind(StrEnum):
    """What a point's value is; all but `BLOCK` and `QUANTIZER` as they are before quantization."""

    INPUT = "input"  # what a norm or an unquantized linear reads
    EMBEDDING = "embedding"
    LINEAR = "linear"
    NORM = "norm"
    ACTIVATION = "activation"
    ATTENTION = "attention probabilities"
    BLOCK = "block"  # the encoder block's output, as the next one reads it
    QUANTIZER = "quantizer"  # the codes of an activation
    LOGITS = "logits"


@dataclass(frozen=True)
class Point:
    """One value of a forward pass."""

    module: str  # as PyTorch names it; "" for the logits
    kind: Kind
    run: int = 0  # the how-manieth of a module that runs repeatedly

    def __str__(self) -> str:
        name = f"{self.module} ({self.kind})" if self.module else str(self.kind)
        return f"{name}, run {self.run}" if self.run else name


Observations = dict[Point, NDArray[Any]]
"""Every observed value of one batch, in order of execution, its first axis the examples."""


def real_values(point: Point, shape: tuple[int, ...], mask: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True, in `shape`, where neither the token nor the attended token is padding.

    `mask` is the attention mask, (batch, sequence). Values are (batch, outputs), (batch, sequence,
    channels), (batch, heads, sequence, channels) as rotated queries are, or attention probabilities
    (batch, heads, query, key); raises ShapeError for any other.
    """
    real = mask.astype(bool)
    batch, sequence = real.shape
    # By name, since a head may be as wide as the sequence is long.
    attended = point.kind is Kind.ATTENTION or point.module.endswith(".softmax_quantizer")
    match shape:
        case (rows, _) if rows == batch:
            where = np.ones((batch, 1), bool)
        case (rows, tokens, _) if (rows, tokens) == (batch, sequence):
            where = real[:, :, np.newaxis]
        case (rows, _, tokens, keys) if (rows, tokens) == (batch, sequence) and (
            keys == sequence or not attended
        ):
            where = real[:, np.newaxis, :, np.newaxis]
            if attended:
                where = where & real[:, np.newaxis, np.newaxis, :]
        case _:
            raise ShapeError(
                str(point),
                expected=f"a value of {batch} examples with {sequence} tokens",
                found=f"the shape {shape}",
                remedy="leave this kind of point out",
            )
    return np.broadcast_to(where, shape)
