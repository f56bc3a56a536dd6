"""One limit of what a compressed model may cost: a share of the float32 size, or seconds."""

import math
from dataclasses import dataclass

from nxmi_export.errors import UsageError
from nxmi_export.search.acceleration import seconds_of
from nxmi_export.search.latency_model import LatencyModel
from nxmi_export.search.program import Coefficients, Program, Row, at_most
from nxmi_export.search.size import size_of
from nxmi_export.search.space import Candidate, SearchSpace, schemes_of

__all__ = ["LatencyBudget", "SizeBudget"]

# A sum of floats may miss the limit that it meets by its last bits.
_ROUNDING = 1 + 1e-12


@dataclass(frozen=True)
class SizeBudget:
    """A largest share of the float32 size of all encoder linears; 0.125 has 87.5 % saved."""

    target: float
    metadata: bool  # whether the index of every kept value counts

    def __post_init__(self) -> None:
        _check_positive("size budget", self.target, "a share of the float32 size such as 0.125")
        if self.target > 1:
            is_percentage = self.target <= 100
            raise UsageError(
                "size budget",
                expected="a share of the float32 size, at most 1",
                found=f"{self.target:g}",
                remedy=f"for {self.target:g} % of it give {self.target / 100:g}"
                if is_percentage
                else "give one such as 0.125",
            )

    def of(self, space: SearchSpace, candidate: Candidate) -> float:
        """What the candidate takes of it."""
        return size_of(space, candidate, metadata=self.metadata)

    def admits(self, space: SearchSpace, candidate: Candidate) -> bool:
        """Whether the candidate is small enough."""
        return self.of(space, candidate) <= self.target * _ROUNDING

    def cost(self, program: Program) -> Coefficients:
        """What every choice takes of it."""
        return program.size(metadata=self.metadata)

    def row(self, cost: Coefficients) -> Row:
        """The condition that a solution is small enough, up to rounding."""
        return at_most(cost, self.target)

    def in_words(self, share: float) -> str:
        """As in "0.125 of the float32 size with metadata"; rounded up, so that it can be met."""
        rounded = math.ceil(share * 10_000 / _ROUNDING) / 10_000
        return f"{rounded:g} of the float32 size {'with metadata' if self.metadata else 'nominal'}"

    def describe(self) -> str:
        """The limit itself in words."""
        kind = "with metadata" if self.metadata else "nominal"
        return f"{self.target:g} of the float32 size {kind}"


@dataclass(frozen=True)
class LatencyBudget:
    """Most seconds of one forward pass, by `model`."""

    seconds: float
    model: LatencyModel

    def __post_init__(self) -> None:
        _check_positive("latency budget", self.seconds, "a positive number of seconds")

    def of(self, space: SearchSpace, candidate: Candidate) -> float:
        """What the candidate takes of it."""
        return self.model.seconds(schemes_of(space, candidate))

    def admits(self, space: SearchSpace, candidate: Candidate) -> bool:
        """Whether the candidate is fast enough."""
        return self.of(space, candidate) <= self.seconds * _ROUNDING

    def cost(self, program: Program) -> Coefficients:
        """What every choice takes of it, beside what is spent outside the linears."""
        return seconds_of(program, self.model)

    def row(self, cost: Coefficients) -> Row:
        """The condition that a solution is fast enough, up to rounding."""
        return at_most(cost, self.seconds - self.model.rest)

    def in_words(self, seconds: float) -> str:
        """As in "12.4 ms (0.62x)"; rounded up to four digits, so that it can be met."""
        share = seconds / self.model.dense_seconds
        return f"{_raised(seconds) * 1e3:.4g} ms ({_raised(share):.4g}x)"

    def describe(self) -> str:
        """The limit itself in words, and where the seconds come from."""
        return f"{self.seconds * 1e3:g} ms on {self.model.device} ({self.model.source})"


def _raised(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return math.ceil(value / unit / _ROUNDING) * unit


def _check_positive(subject: str, value: float, expected: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(
            subject, expected=expected, found=f"{value:g}", remedy="give a positive number"
        )
