"""How far two float32 computations of one value may lie apart because they sum in another order."""

import math

import numpy as np
from torch import nn

__all__ = ["rounding_noise", "widest_sum"]

UNIT_ROUNDOFF = float(np.finfo(np.float32).epsneg)  # 2⁻²⁴, of one float32 operation

# Each of the K additions of a dot product rounds a partial sum, with an error up to u times that
# sum. Partial sums of terms with random signs stay about as large as the largest results, and
# independent errors grow like √K rather than K (Higham and Mary, "A new approach to probabilistic
# rounding error analysis", 2019): √K·u·max|x|. The factor covers that two sides err, that a bias,
# a residual addition, a LayerNorm or an activation function follows before the value is quantized,
# and the tail over millions of values. The largest gap measured on a trained six-layer encoder is
# 0.4 √K·u·max|x| in the sparse placement, and 0.9 in the linear one, where unquantized values
# carry their noise on.
SAFETY = 8.0


def rounding_noise(widest: int, largest: float) -> float:
    """The gap allowed between two values of a tensor whose largest magnitude is `largest`.

    `widest` is K, the number of terms that go into it (`widest_sum`). For K = 12 · 3072 and codes
    up to 127 the allowance is 0.012 steps, where a scale that is off by 1 % shows as 1.27.
    """
    return SAFETY * math.sqrt(widest) * UNIT_ROUNDOFF * largest


def widest_sum(model: nn.Module) -> int:
    """K: the most terms that a linear of `model` sums, once for every layer.

    Where the residual stream is not quantized, a value carries the sums of all layers before it.
    """
    widest = max((m.in_features for m in model.modules() if isinstance(m, nn.Linear)), default=1)
    return widest * int(getattr(getattr(model, "config", None), "num_hidden_layers", None) or 1)
