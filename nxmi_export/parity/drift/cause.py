"""What a deviation comes from, and the value that shows it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from nxmi_export.parity.drift.excess import Excess
from nxmi_export.parity.drift.point import Point
from nxmi_export.parity.judge import CodeDifference
from nxmi_export.parity.layer_weights import Mismatch

__all__ = [
    "Attribution",
    "Cause",
    "Evidence",
    "FusionEvidence",
    "PaddingEvidence",
    "TieEvidence",
    "cause_of_mismatch",
]


class Cause(StrEnum):
    """Where a difference arises."""

    WEIGHT_CODE = "weight code"  # a stored integer, or the pattern that it keeps to
    WEIGHT = "float weight"  # of a linear, an embedding or a bias
    SCALE = "scale"  # of a weight or an activation, its axis or its zero-point
    QUANTIZER = "quantizer"  # one that is missing, or one too many
    ROUNDING_TIE = "rounding tie"
    FUSION = "fusion"
    SOFTMAX = "softmax numerics"
    LAYER_NORM = "LayerNorm numerics"
    PADDING = "padding"
    MASK = "attention mask"  # one that hides real tokens
    SCORES = "attention scores"  # products of query and key, in another layout or of other operands
    SUM = "residual sum"  # what a norm reads, where what is added was right
    OPERATOR = "operator numerics"  # any other operation, its stored numbers being right


@dataclass(frozen=True)
class TieEvidence:
    """The first code that differs, and how many do; every one of them at a tie."""

    example: int  # into the dataset
    difference: CodeDifference
    ties: int
    codes: int  # compared


@dataclass(frozen=True)
class PaddingEvidence:
    """One example in its batch, and the same example alone, without padding."""

    padded: Excess
    tokens: int  # of the example
    padded_tokens: int  # of its batch
    alone: float  # the error at the same point in units of what rounding explains


@dataclass(frozen=True)
class FusionEvidence:
    """A code, or a logit, that the optimized graph makes otherwise from equal codes before it."""

    module: str  # of the quantizer; "" for the logits
    example: int
    position: tuple[int, ...]
    written: float
    optimized: float
    distance: float  # of what was rounded to the tie between both codes; of logits their gap
    explained: float  # by summation order, in the same unit


Evidence: TypeAlias = Mismatch | TieEvidence | PaddingEvidence | FusionEvidence | Excess


@dataclass(frozen=True)
class Attribution:
    """One cause and its evidence."""

    cause: Cause
    module: str
    evidence: Evidence
    reason: str  # one sentence
    maker: str = ""  # the module whose node makes the value, where an operation is at fault
    absent: tuple[Point, ...] = ()  # what PyTorch computes before the value, and the graph not


_CAUSES = {
    "code": Cause.WEIGHT_CODE,
    "pattern": Cause.WEIGHT_CODE,
    "storage": Cause.WEIGHT_CODE,
    "layer": Cause.WEIGHT,
    "shape (in, out)": Cause.WEIGHT,
    "weight": Cause.WEIGHT,
    "bias": Cause.WEIGHT,
    "way to the product": Cause.WEIGHT,
    "embedding": Cause.WEIGHT,
    "table": Cause.WEIGHT_CODE,
    "parameter": Cause.WEIGHT,
    "scale": Cause.SCALE,
    "axis of the scale": Cause.SCALE,
    "zero-point": Cause.SCALE,
    "pair": Cause.SCALE,
    "quantizer": Cause.QUANTIZER,
    "float16": Cause.OPERATOR,
    "norm weight": Cause.LAYER_NORM,
    "norm bias": Cause.LAYER_NORM,
    "norm epsilon": Cause.LAYER_NORM,
}


def cause_of_mismatch(mismatch: Mismatch) -> Cause:
    """The cause that a stored number which differs stands for."""
    what = mismatch.what.removeprefix("type of ").removeprefix("shape of ")
    return _CAUSES[what]
