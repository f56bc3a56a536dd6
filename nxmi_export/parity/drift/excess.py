"""One value on two sides that began from equal integers in, how far beyond rounding it is out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.parity.drift.point import Point
from nxmi_export.parity.judge import Side, allowed_gaps, average_gap
from nxmi_export.parity.noise import LogitNoise, local_magnitudes, rounding_noise

__all__ = ["Excess", "excess", "quantizer_excess"]

PER_EXAMPLE = 2  # dimensions of a value without tokens: the pooled vector, the logits


@dataclass(frozen=True)
class Excess:
    """The value of one point that lies furthest beyond what summation order explains."""

    point: Point
    example: int  # into the dataset
    position: tuple[int, ...]
    reference: float
    candidate: float
    error: float  # |candidate − reference|; of a quantizer in steps of its scale
    explained: float  # the error that summation order accounts for, in the same unit
    average: bool = False  # both are root mean squares over the example, in units of its values

    @property
    def times(self) -> float:
        """The error in units of what is explained; above 1 it is not."""
        return self.error / self.explained if self.explained else float("inf")


def excess(
    point: Point,
    reference: NDArray[Any],
    candidate: NDArray[Any],
    real: NDArray[np.bool_],
    noise: LogitNoise,
) -> list[Excess]:
    """The largest of each example, its number in the batch for `example`; none without an error.

    The bound is `rounding_noise` of the magnitudes near each value, padding left out. Terms may
    cancel to smaller logits, and their noise does not.
    """
    floor = noise.terms if reference.ndim == PER_EXAMPLE else 0.0
    found = []
    for row, (before, after, where) in enumerate(zip(reference, candidate, real, strict=True)):
        with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is no agreement
            errors = np.abs(after.astype(np.float64) - before)
        errors = np.where(where, np.where(np.isnan(errors), np.inf, errors), 0.0)
        near = np.maximum(local_magnitudes(np.where(where, before, 0.0)), floor)
        at = _furthest(errors, explained := rounding_noise(noise.widest, near))
        if errors[at] > 0:
            values = float(before[at]), float(after[at])
            error, allowed = float(errors[at]), float(explained[at])
            found.append(Excess(point, row, _place(at), *values, error, allowed))
    return found


def quantizer_excess(point: Point, reference: Side, candidate: Side, widest: int) -> Excess:
    """The excess of one example's codes that `judge` objects to; its `example` is 0.

    In pre-rounding ratios where these lie beyond the bound, else in codes: one side then rounds
    otherwise than half to even. Where it is the average alone, the average; the place is then the
    one that lies furthest apart.
    """
    noise = allowed_gaps(reference.ratios, widest)
    with np.errstate(invalid="ignore"):
        gaps = np.abs(candidate.ratios.astype(np.float64) - reference.ratios)
    gaps = np.where(np.isnan(gaps), np.inf, gaps)
    before, after = reference.ratios, candidate.ratios
    beyond = gaps
    if not (gaps > noise).any():
        beyond = _beyond_a_tie(reference, candidate)
        before, after = reference.codes.astype(np.float64), candidate.codes.astype(np.float64)
    if not (beyond > noise).any():
        at = _furthest(gaps, noise)
        values = float(reference.ratios[at]), float(candidate.ratios[at])
        average, allowed = average_gap(reference, candidate, widest)
        return Excess(point, 0, _place(at), *values, average, allowed, average=True)
    at = _furthest(beyond, noise)
    values = float(before[at]), float(after[at])
    return Excess(point, 0, _place(at), *values, float(beyond[at]), float(noise[at]))


def _beyond_a_tie(reference: Side, candidate: Side) -> NDArray[np.float64]:
    """How far each code that differs is from a rounding tie, in steps."""
    before, after = reference.codes.astype(np.float64), candidate.codes.astype(np.float64)
    ties = np.minimum(before, after) + 0.5
    off = np.maximum(np.abs(reference.ratios - ties), np.abs(candidate.ratios - ties))
    return np.where(before == after, 0.0, np.maximum(off, np.abs(after - before) - 1))


def _place(at: tuple[np.intp, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in at)


def _furthest(errors: NDArray[np.float64], explained: NDArray[np.float64]) -> tuple[np.intp, ...]:
    """Where the error is the largest multiple of what is explained; of infinite ones, the first."""
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(errors > 0, errors / explained, 0.0)
    return np.unravel_index(int(times.argmax()), errors.shape)
