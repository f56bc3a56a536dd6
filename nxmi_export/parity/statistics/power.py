"""A dev set's size and how much changed in, the smallest drop it can rule out, out."""

import math
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["POWER", "Power", "exact_floor", "power_of"]

POWER = 0.8  # how often an export that loses nothing should pass; the customary figure


@dataclass(frozen=True)
class Power:
    """What this dev set cannot certify; both figures are drops of the primary score, as shares."""

    floor: float  # no smaller margin can be met, even where nothing changes
    detectable: float  # a smaller margin is met by an equal model in less than `power` of the cases
    power: float = POWER

    def __str__(self) -> str:
        return (
            f"This dev set cannot certify a drop below {100 * self.floor:.2f} points, even if no "
            f"prediction changes; with as many changes as seen, it certifies "
            f"{100 * self.detectable:.2f} points for {self.power:.0%} of the models that lose "
            f"nothing."
        )


def exact_floor(total: int, confidence: float) -> float:
    """The largest share of examples that may be struck without one of `total` showing it.

    (1 − share)^total = 1 − confidence: about 3 / total at 95 % (Hanley and Lippman-Hand, 1983,
    JAMA 249:1743-1745).
    """
    return -math.expm1(math.log(1 - confidence) / total)


def power_of(standard_error: float, floor: float, confidence: float) -> Power:
    """The margin that an equal model meets with `POWER`, or `floor` where that is larger.

    (z_confidence + z_power) standard errors (Liu, Hsueh, Hsieh and Chen, 2002, Statistics in
    Medicine 21:231-245); for accuracy the standard error without a difference is
    √(discordant pairs) / total.
    """
    normal = NormalDist()
    reach = normal.inv_cdf(confidence) + normal.inv_cdf(POWER)
    return Power(floor, max(floor, reach * standard_error))
