"""The three answers evidence can give."""

from collections.abc import Iterable
from enum import StrEnum

__all__ = ["Verdict", "weakest"]


class Verdict(StrEnum):
    """Proved, refuted or unproven; never assumed."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNPROVEN = "unproven"


def weakest(verdicts: Iterable[Verdict]) -> Verdict:
    """What holds of all: one refutation refutes, nothing to look at proves nothing."""
    seen = set(verdicts)
    if Verdict.REFUTED in seen:
        return Verdict.REFUTED
    return Verdict.PROVED if seen == {Verdict.PROVED} else Verdict.UNPROVEN
