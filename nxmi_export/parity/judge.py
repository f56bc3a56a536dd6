"""One value, quantized on two sides from equal inputs, in; whether only rounding ties differ, out.

Both sides computed `ratio = x / scale` in float32, from the same integer codes upstream, and
rounded it half to even. Then

1. the ratios agree everywhere within rounding noise (see `noise`), and
2. every code that differs does so by exactly one, its two ratios lying within that noise of the
   tie n + ½ between the codes.

(1) implies (2) for a quantizer that rounds as ONNX says; (2) is checked because one might not.
Where a fused kernel shows its codes alone, (2) is judged by the reference's ratios.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.parity.noise import rounding_noise

__all__ = ["CodeDifference", "Judgement", "Side", "judge", "judge_codes"]


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
    noise = _noise(reference, widest)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is no agreement
        gaps = np.abs(candidate.ratios.astype(np.float64) - reference.ratios)
    differing = np.argwhere(reference.codes != candidate.codes)
    differences = (_difference(module, reference, candidate, at) for at in differing)
    first = next(differences, None)
    objection = _objection_to_gap(module, reference, candidate, gaps, noise)
    if objection is None:
        objection = _objection_to_codes(module, reference, candidate, noise)
    largest = float(gaps.max(initial=0))
    return Judgement(len(differing), first, largest, objection)


def judge_codes(
    module: str, reference: Side, codes: NDArray[np.integer[Any]], widest: int
) -> Judgement:
    """Judge one quantizer of one example whose candidate shows no ratios; NaN stands for those."""
    unseen = np.full(reference.ratios.shape, np.nan, np.float32)
    if reference.codes.shape != codes.shape:
        return judge(module, reference, Side(unseen, codes), widest)
    noise = _noise(reference, widest)
    candidate = Side(unseen, codes)
    objection = _objection_to_codes(module, reference, candidate, noise)
    differing = np.argwhere(reference.codes != codes)
    first = next((_difference(module, reference, candidate, at) for at in differing), None)
    return Judgement(len(differing), first, 0.0, objection)


def _noise(reference: Side, widest: int) -> float:
    finite = np.abs(reference.ratios[np.isfinite(reference.ratios)])
    return min(rounding_noise(widest, float(finite.max(initial=0))), STILL_A_TIE)


def _objection_to_gap(
    module: str, reference: Side, candidate: Side, gaps: NDArray[np.float64], noise: float
) -> str | None:
    """The largest gap, where it is more than noise (NaN is)."""
    apart = ~(gaps <= noise)
    if not apart.any():
        return None
    at = np.unravel_index(int(np.argmax(np.where(np.isnan(gaps), np.inf, gaps))), gaps.shape)
    return (
        f"{_difference(module, reference, candidate, at)}, {gaps[at]:.2g} apart where summation "
        f"order accounts for {noise:.2g}; so are {np.count_nonzero(apart)} of {gaps.size} values"
    )


def _objection_to_codes(module: str, reference: Side, candidate: Side, noise: float) -> str | None:
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
