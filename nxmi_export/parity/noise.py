"""How far two float32 computations of one value may lie apart because they sum in another order."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import nn

__all__ = [
    "LogitNoise",
    "expected_ties",
    "local_magnitudes",
    "noise_near",
    "rounding_noise",
    "typical_noise",
    "widest_sum",
]

UNIT_ROUNDOFF = float(np.finfo(np.float32).epsneg)  # 2⁻²⁴, of one float32 operation
FLOAT16_ROUNDOFF = float(np.finfo(np.float16).epsneg)  # 2⁻¹¹

# Each of the K additions of a dot product rounds a partial sum, with an error up to u times that
# sum. Partial sums of terms with random signs stay about as large as the largest results, and
# independent errors grow like √K rather than K (Higham and Mary, "A new approach to probabilistic
# rounding error analysis", 2019): √K·u·|x|. The factor covers that two sides err, that a bias,
# a residual addition, a LayerNorm or an activation function follows before the value is quantized,
# and the tail over millions of values. `python -m samples.rounding_noise` measures both figures:
# on a trained six-layer encoder the largest gap is 1.3 √K·u of the magnitude near it.
SAFETY = 8.0
# Root mean square over a tensor, in the same unit; a sum's noise does not grow with all K layers.
TYPICAL = 0.5
LEAST_TYPICAL = 16.0  # units in the last place: an erf or a LayerNorm has its own, however small K


def rounding_noise(widest: int, largest: Any) -> Any:
    """The gap allowed between two values of which terms of magnitude `largest` are summed.

    `widest` is K, the number of terms that go into it (`widest_sum`); `largest` a number or an
    array, and so is the result. For K = 12 · 3072 and codes up to 127 the allowance is 0.012 steps,
    where a scale that is off by 1 % shows as 1.27.
    """
    return SAFETY * math.sqrt(widest) * UNIT_ROUNDOFF * largest


def typical_noise(widest: int) -> float:
    """The root mean square allowed to gaps over a tensor, each in units of `local_magnitudes`.

    One wrong constant in a formula moves every value a little, far below what a single value's
    tail is allowed; the mean over thousands of values shows it.
    """
    return UNIT_ROUNDOFF * max(TYPICAL * math.sqrt(widest), LEAST_TYPICAL)


def local_magnitudes(values: NDArray[Any]) -> NDArray[np.float64]:
    """How large the terms are that make each of `values` (…, channels), infinities left out.

    Its own magnitude, or the root mean square of its token's or its channel's values: what it
    cancelled from. Not the largest of the tensor: encoders have channels a hundred times as large
    as the rest, whose noise stays in them.
    """
    sizes = np.where(np.isfinite(values), np.abs(values.astype(np.float64)), 0.0)
    squares = np.square(sizes)
    token = np.sqrt(squares.mean(axis=-1, keepdims=True))
    channel = np.sqrt(squares.mean(axis=tuple(range(sizes.ndim - 1)), keepdims=True))
    return np.asarray(np.maximum(sizes, np.maximum(token, channel)), np.float64)


def noise_near(widest: int, values: NDArray[Any]) -> NDArray[np.float64]:
    """`rounding_noise` of each of `values`, of the magnitudes near it."""
    return np.asarray(rounding_noise(widest, local_magnitudes(values)), np.float64)


def expected_ties(widest: int, ratios: NDArray[Any]) -> float:
    """How many codes of `ratios` tip to a neighbour under `typical_noise`, its law taken as normal.

    A value at the distance d from the tie between two codes tips with the probability Φ(−d/σ).
    """
    finite = np.where(np.isfinite(ratios), ratios, 0.0).astype(np.float64)
    distances = np.abs(finite - np.floor(finite) - 0.5)
    spread = typical_noise(widest) * local_magnitudes(finite)
    with np.errstate(divide="ignore", invalid="ignore"):
        tips = ndtr(-distances / spread)
    return float(np.where(spread > 0, tips, 0.0).sum())


@dataclass(frozen=True)
class LogitNoise:
    """What summation order accounts for in the logits of a model."""

    widest: int  # K: `widest_sum`
    terms: float  # how large the terms are that make a logit

    @classmethod
    def of_model(cls, model: nn.Module) -> Self:
        """Of the head's rows of weights, the largest Euclidean norm; at least 1.

        What they multiply is of the order of 1. Terms may cancel to smaller logits, and their noise
        does not.
        """
        outputs = getattr(getattr(model, "config", None), "num_labels", None)
        heads = [
            m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == outputs
        ]
        norms = [float(head.weight.detach().float().norm(dim=1).max()) for head in heads]
        return cls(widest_sum(model), max([1.0, *norms]))

    def of(self, logits: NDArray[Any]) -> float:
        """The gap allowed to the logits of one example."""
        largest = float(np.abs(logits).max(initial=self.terms))
        return float(rounding_noise(self.widest, largest))

    def of_float16(self, logits: NDArray[Any]) -> float:
        """The gap allowed to them where float16 holds what lies between the layers.

        Sums stay in float32, so that a value is rounded to 11 bits a few times a layer and not for
        every term: `TYPICAL`, without the factor for the tail of single sums.
        """
        largest = float(np.abs(logits).max(initial=self.terms))
        return TYPICAL * math.sqrt(self.widest) * FLOAT16_ROUNDOFF * largest


def widest_sum(model: nn.Module) -> int:
    """K: the most terms that a linear of `model` sums, once for every layer.

    Where the residual stream is not quantized, a value carries the sums of all layers before it.
    """
    widest = max((m.in_features for m in model.modules() if isinstance(m, nn.Linear)), default=1)
    return widest * int(getattr(getattr(model, "config", None), "num_hidden_layers", None) or 1)
