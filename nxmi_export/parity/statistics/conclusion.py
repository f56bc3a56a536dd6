"""Three p-values in, what they prove and why out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nxmi_export.parity.statistics.terms import Terms

__all__ = ["Claim", "Conclusion", "Reason", "conclude", "reasons"]


class Claim(StrEnum):
    """What can be proved about the difference; each is tested against its opposite."""

    NO_DROP = "no drop beyond the margin"  # non-inferiority
    NO_GAIN = "no gain beyond the margin"  # with it, equivalence: two one-sided tests
    DROP = "a drop beyond the margin"


class Conclusion(StrEnum):
    """What follows from the claims that are proved.

    `NOT_INFERIOR` is the passing answer of a candidate whose gain is, or may be, too large to call
    it equivalent. `INCONCLUSIVE` proves neither harm nor harmlessness.
    """

    EQUIVALENT = "equivalent"
    NOT_INFERIOR = "not inferior"
    INFERIOR = "inferior"
    INCONCLUSIVE = "inconclusive"

    @property
    def passes(self) -> bool:
        """Whether a drop beyond the margin is ruled out."""
        return self in (Conclusion.EQUIVALENT, Conclusion.NOT_INFERIOR)


@dataclass(frozen=True)
class Reason:
    """One claim, tested."""

    claim: Claim
    p_value: float  # of its opposite
    margin: float
    confidence: float

    @property
    def proved(self) -> bool:
        """Whether the opposite is rejected."""
        return self.p_value <= 1 - self.confidence

    def __str__(self) -> str:
        shown = self.claim.replace("the margin", f"{100 * self.margin:g} points")
        return (
            f"{shown} is {'' if self.proved else 'not '}shown at {100 * self.confidence:g} % "
            f"confidence (p = {self.p_value:.2g})"
        )


def reasons(p_values: Mapping[Claim, float], terms: Terms) -> tuple[Reason, ...]:
    """One reason a claim, in the order of `Claim`."""
    return tuple(Reason(each, p_values[each], terms.margin, terms.confidence) for each in Claim)


def conclude(given: tuple[Reason, ...]) -> Conclusion:
    """The strongest conclusion that the proved claims allow."""
    proved = {reason.claim for reason in given if reason.proved}
    if Claim.NO_DROP in proved:
        return Conclusion.EQUIVALENT if Claim.NO_GAIN in proved else Conclusion.NOT_INFERIOR
    return Conclusion.INFERIOR if Claim.DROP in proved else Conclusion.INCONCLUSIVE
