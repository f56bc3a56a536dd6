"""Two counts of examples that one model alone has right in, McNemar's p-values out."""

import math
from dataclasses import dataclass

from scipy import special

__all__ = ["McNemar", "mcnemar"]


@dataclass(frozen=True)
class McNemar:
    """Two-sided p-values of the hypothesis that both models are right equally often.

    A large value proves nothing: that two models are alike takes a margin.
    """

    exact: float  # never rejects more often than it says
    mid_p: float  # half the weight on the data themselves; closer to its level, not bounded by it


def mcnemar(gains: int, losses: int) -> McNemar:
    """McNemar's test from the discordant pairs; both values are 1 where there are none.

    Given their number, the gains are Binomial(gains + losses, ½) under the hypothesis. Exact
    conditional and mid-p versions of Fagerland, Lydersen and Laake (2013), BMC Medical Research
    Methodology 13:91.
    """
    discordant, fewer = gains + losses, min(gains, losses)
    if not discordant:
        return McNemar(1.0, 1.0)
    if gains == losses:
        # The two tails share their largest term, which is counted once.
        return McNemar(1.0, 1.0 - _share(fewer, discordant) / 2)
    exact = 2 * float(special.betainc(discordant - fewer, fewer + 1, 0.5))  # P(X ≤ fewer)
    return McNemar(min(exact, 1.0), exact - _share(fewer, discordant))


def _share(successes: int, trials: int) -> float:
    """The binomial probability at ½."""
    logarithm = -special.betaln(successes + 1, trials - successes + 1) - math.log(trials + 1)
    return math.exp(logarithm - trials * math.log(2))
