"""Attention probabilities of one example on two sides in, what makes them differ out.

Both sides began from equal queries and keys. What a softmax makes of scores says how those scores
differ: logarithms of probabilities are scores up to a constant in each row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nxmi_export.parity.drift.cause import Cause

__all__ = ["AttentionFinding", "attention_finding"]

# Of the spread of a row's scores: float32 keeps a probability above 1e-6 to far more than that.
_PROPORTIONAL = 0.01
_NO_SCALE = 1e-5  # a factor this close to 1 is float32's noise
_READABLE = 1e-6  # the smallest probability whose logarithm is taken


@dataclass(frozen=True)
class AttentionFinding:
    """What the probabilities show."""

    cause: Cause
    reason: str  # a clause, without a full stop


def attention_finding(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    real: NDArray[np.bool_],
    noise: float,
) -> AttentionFinding:
    """Judge the probabilities (heads, queries, keys) of one example whose real tokens are `real`.

    `noise` is what summation order accounts for. The cases, of which the first that holds is told:

    1. the rows of real tokens do not sum to 1: the softmax runs over another axis;
    2. a real token attends to padding;
    3. scores are multiples of the reference's, which is a scale;
    4. a real key that the reference attends to gets nothing, which is a mask;
    5. scores are the reference's up to a hundredth of their spread: the softmax itself differs;
    6. scores are other numbers altogether.
    """
    before, after = reference[:, real], candidate[:, real]
    sums = after.sum(-1)
    if np.abs(sums - 1).max(initial=0) > noise * after.shape[-1]:
        reason = f"the softmax over the keys of a real token sums to {_furthest(sums):.4g}, not 1"
        return AttentionFinding(Cause.SOFTMAX, reason)
    leak = float(after[..., ~real].sum(-1).max(initial=0))
    if leak > noise:
        reason = f"a real token gives up to {_percent(leak)} of its attention to padding"
        return AttentionFinding(Cause.PADDING, reason)
    before, after = before[..., real], after[..., real]
    slope, rest = _proportion(before, after)
    if rest <= _PROPORTIONAL and abs(slope - 1) > max(rest, _NO_SCALE):
        reason = f"its scores are {slope:.4g} times as large: the softmax scale"
        return AttentionFinding(Cause.SOFTMAX, reason)
    hidden = (after == 0) & (before > max(noise, _READABLE))
    if hidden.any():
        share = _percent(float(hidden.mean()))
        reason = f"{share} of the real keys that PyTorch attends to get nothing, as if masked"
        return AttentionFinding(Cause.MASK, reason)
    if rest <= _PROPORTIONAL:
        return AttentionFinding(Cause.SOFTMAX, "the softmax differs, from equal scores")
    reason = "the products of query and key are other numbers: their heads, order or operands"
    return AttentionFinding(Cause.SCORES, reason)


def _proportion(before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[float, float]:
    """The factor between both sides' scores, and the largest rest as a share of their spread.

    Scores are known up to a constant in each row, which is taken out by their mean.
    """
    readable = (before > _READABLE) & (after > _READABLE)
    one, other = (_centred(side, readable) for side in (before, after))
    square = float((one * one).sum())
    if not square:
        return np.nan, np.inf
    slope = float((one * other).sum()) / square
    spread = max(float(np.abs(one).max()), float(np.abs(other).max()))
    return slope, float(np.abs(other - slope * one).max()) / spread


def _centred(side: NDArray[np.float32], readable: NDArray[np.bool_]) -> NDArray[np.float64]:
    logs = np.log(np.where(readable, side, 1).astype(np.float64))
    counts = np.maximum(readable.sum(-1, keepdims=True), 1)
    return np.asarray(np.where(readable, logs - logs.sum(-1, keepdims=True) / counts, 0.0))


def _furthest(sums: NDArray[np.float32]) -> float:
    return float(sums.reshape(-1)[np.abs(sums - 1).argmax()])


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
