"""One value, quantized on two sides from equal inputs, in; whether only rounding ties differ, out.

Both sides computed `ratio = x / scale` in float32, from the same integer codes upstream, and
rounded it half to even. Then

1. the ratios agree everywhere within rounding noise of the magnitudes near them (see `noise`),
2. and on average within much less, since a wrong formula moves all of them a little, and
3. every code that differs does so by exactly one, its two ratios lying within that noise of the
   tie n + ½ between the codes.

(1) implies (3) for a quantizer that rounds as ONNX says; (3) is checked because one might not.
Where a fused kernel shows its codes alone, (3) is judged by the reference's ratios, and in place of
(2) no more codes may differ than such noise tips.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.parity.noise import (
    SAFETY,
    TYPICAL,
    expected_ties,
    local_magnitudes,
    noise_near,
    typical_noise,
)

__all__ = [
    "CodeDifference",
    "Judgement",
    "Side",
    "allowed_gaps",
    "average_gap",
    "judge",
    "judge_codes",
    "most_ties",
]


# Steps. One absurdly large value in a tensor must not make every difference in it look like noise.
STILL_A_TIE = 0.1


@dataclass(frozen=True)
class Side:
    """What one side made of one example's value."""

    ratios: NDArray[np.float32]  # x / scale, before rounding
    codes: NDArray[np.integer[Any]]  # around a zero-point of 0


@dataclass(frozen=True)
class CodeDifference:
    """One code that differs; ratios and codes of the reference come first."""

    module: str
    position: tuple[int, ...]  # in the example's value: (token, channel), (head, query, key)
    ratios: tuple[float, float]  # steps of the scale; NaN where they cannot be seen
    codes: tuple[int, int]

    def __str__(self) -> str:
        if np.isnan(self.ratios[1]):
            return (
                f"{self.module} at {list(self.position)}: {self.ratios[0]!s} steps have the codes "
                f"{self.codes[0]} and {self.codes[1]}"
            )
        return (
            f"{self.module} at {list(self.position)}: "
            f"{self.ratios[0]!s} and {self.ratios[1]!s} steps have the codes "
            f"{self.codes[0]} and {self.codes[1]}"
        )


@dataclass(frozen=True)
class Judgement:
    """What the codes of one quantizer say about one example."""

    differing: int  # codes
    first: CodeDifference | None
    largest_gap: float  # steps of the scale
    objection: str | None  # why rounding ties do not explain it; None where they do


def judge(module: str, reference: Side, candidate: Side, widest: int) -> Judgement:
    """Judge one quantizer of one example; `widest` is the longest sum behind its value."""
    if reference.codes.shape != candidate.codes.shape:
        shapes = f"{reference.codes.shape} and {candidate.codes.shape}"
        return Judgement(0, None, np.nan, f"{module}: the values have the shapes {shapes}")
    noise = allowed_gaps(reference.ratios, widest)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is no agreement
        gaps = np.abs(candidate.ratios.astype(np.float64) - reference.ratios)
    differing = np.argwhere(reference.codes != candidate.codes)
    differences = (_difference(module, reference, candidate, at) for at in differing)
    first = next(differences, None)
    objection = (
        _objection_to_gap(module, reference, candidate, gaps, noise)
        or _objection_to_codes(module, reference, candidate, noise)
        or _objection_to_average(module, reference, candidate, widest)
    )
    largest = float(gaps.max(initial=0))
    return Judgement(len(differing), first, largest, objection)


def judge_codes(
    module: str, reference: Side, codes: NDArray[np.integer[Any]], widest: int
) -> Judgement:
    """Judge one quantizer of one example whose candidate shows no ratios; NaN stands for those."""
    unseen = np.full(reference.ratios.shape, np.nan, np.float32)
    if reference.codes.shape != codes.shape:
        return judge(module, reference, Side(unseen, codes), widest)
    candidate = Side(unseen, codes)
    differing = np.argwhere(reference.codes != codes)
    objection = _objection_to_codes(
        module, reference, candidate, allowed_gaps(reference.ratios, widest)
    ) or _objection_to_number(module, reference, len(differing), widest)
    first = next((_difference(module, reference, candidate, at) for at in differing), None)
    return Judgement(len(differing), first, 0.0, objection)


def allowed_gaps(ratios: NDArray[Any], widest: int) -> NDArray[np.float64]:
    """How far from each of `ratios`, in steps, another computation of it may lie."""
    return np.minimum(noise_near(widest, ratios), STILL_A_TIE)


def average_gap(reference: Side, candidate: Side, widest: int) -> tuple[float, float]:
    """The root mean square of all gaps, each in units of the magnitude near it; and what it may be.

    The fewer values, the more of their tails is in it.
    """
    near = local_magnitudes(reference.ratios)
    with np.errstate(invalid="ignore"):
        gaps = np.abs(candidate.ratios.astype(np.float64) - reference.ratios)
    relative = np.divide(gaps, near, out=np.zeros_like(near), where=near > 0)
    count = max(1, int(np.count_nonzero(_tokens(reference.ratios))))
    average = float(np.sqrt(np.square(relative).sum() / count))
    return average, typical_noise(widest) * (1 + SAFETY / TYPICAL / math.sqrt(count))


def most_ties(ratios: NDArray[Any], widest: int) -> int:
    """More codes of `ratios` than this do not tip by rounding noise: the mean and four deviations.

    Noise is the same for every value, so the number that tip is nearly Poisson's.
    """
    expected = expected_ties(widest, ratios)
    return math.ceil(expected + 4 * math.sqrt(expected) + 2)


def _objection_to_gap(
    module: str,
    reference: Side,
    candidate: Side,
    gaps: NDArray[np.float64],
    noise: NDArray[np.float64],
) -> str | None:
    """The gap furthest beyond what is noise there (NaN is)."""
    apart = ~(gaps <= noise)
    if not apart.any():
        return None
    beyond = np.where(np.isnan(gaps), np.inf, gaps - noise)
    at = np.unravel_index(int(np.argmax(beyond)), gaps.shape)
    return (
        f"{_difference(module, reference, candidate, at)}, {gaps[at]:.2g} apart where summation "
        f"order accounts for {noise[at]:.2g}; so are {np.count_nonzero(apart)} of {gaps.size} "
        "values"
    )


def _objection_to_average(module: str, reference: Side, candidate: Side, widest: int) -> str | None:
    average, allowed = average_gap(reference, candidate, widest)
    if average <= allowed:
        return None
    return (
        f"{module}: the steps lie {average:.2g} of their magnitude apart on average, where "
        f"summation order accounts for {allowed:.2g}"
    )


def _tokens(ratios: NDArray[Any]) -> NDArray[np.bool_]:
    """The values of tokens that have any: what padding holds is 0 here."""
    return np.broadcast_to((ratios != 0).any(axis=-1, keepdims=True), ratios.shape)


def _objection_to_number(module: str, reference: Side, differing: int, widest: int) -> str | None:
    """More codes than noise tips, though each one lies at a tie."""
    if not differing or differing <= (most := most_ties(reference.ratios, widest)):
        return None
    return (
        f"{module}: {differing} of {reference.codes.size} codes differ, each at a rounding tie, "
        f"where summation order tips {most} at most"
    )


def _objection_to_codes(
    module: str, reference: Side, candidate: Side, noise: NDArray[np.float64]
) -> str | None:
    """The first differing code that is not a tie."""
    lower = np.minimum(reference.codes, candidate.codes).astype(np.float64)
    steps = np.abs(reference.codes.astype(np.int64) - candidate.codes)
    # Of a ratio that cannot be seen, the reference's distance says enough: both are of one value.
    off_tie = np.fmax(
        np.abs(reference.ratios - (lower + 0.5)), np.abs(candidate.ratios - (lower + 0.5))
    )
    wrong = (steps != 0) & ~((steps == 1) & (off_tie <= noise))
    if not wrong.any():
        return None
    at = np.argwhere(wrong)[0]
    return f"{_difference(module, reference, candidate, at)}, which is no rounding tie"


def _difference(module: str, reference: Side, candidate: Side, at: Any) -> CodeDifference:
    place = tuple(int(i) for i in at)
    return CodeDifference(
        module,
        place,
        (float(reference.ratios[place]), float(candidate.ratios[place])),
        (int(reference.codes[place]), int(candidate.codes[place])),
    )
