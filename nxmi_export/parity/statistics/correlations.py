"""Three correlations of the same examples in, whether two of them differ out (Fisher's z)."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from nxmi_export.errors import DataError
from nxmi_export.glue.metrics import pearson
from nxmi_export.parity.statistics.pairs import Pairs

__all__ = ["CorrelationDifference", "correlation_difference", "meng_test", "zou_limits"]

_ROUNDING = 1e-12  # of a correlation: how its sums round depends on the processor
FEWEST = 4  # examples: the variance of Fisher's z is 1 / (n − 3)


@dataclass(frozen=True)
class CorrelationDifference:
    """Pearson's correlation with the labels, candidate − reference."""

    reference: float
    candidate: float
    between: float  # the correlation of the two models' predictions
    lower: float
    upper: float
    p_equal: float  # two-sided


def correlation_difference(pairs: Pairs, confidence: float) -> CorrelationDifference | None:
    """Compare two correlations that share the labels; `confidence` is that of each limit.

    None where Fisher's z does not exist: fewer than 4 examples, or predictions that are an exact
    linear function of the labels.
    """
    before = pearson(pairs.reference, pairs.labels)
    after = pearson(pairs.candidate, pairs.labels)
    between = pearson(pairs.reference, pairs.candidate)
    if len(pairs) < FEWEST or max(abs(before), abs(after)) > 1 - _ROUNDING:
        return None
    trio = (after, before, between)
    lower, upper = zou_limits(*trio, total=len(pairs), confidence=confidence)
    statistic = meng_test(*trio, total=len(pairs))
    p_equal = 2 * NormalDist().cdf(-abs(statistic))
    return CorrelationDifference(before, after, between, lower, upper, p_equal)


def zou_limits(
    first: float, second: float, between: float, *, total: int, confidence: float
) -> tuple[float, float]:
    """Limits of first − second, two correlations with one variable in common.

    `between` is the correlation of the variables they do not share, `confidence` that of each limit
    alone. G. Y. Zou (2007), Toward using confidence intervals to compare correlations,
    Psychological Methods 12:399-413. DataError outside Fisher's z.

    A limit of one correlation lies further below it than above, and only that asymmetry is left for
    nearly equal variables: the limits do not shrink to nothing, and err on the wide side.
    """
    _check(first, second, between, total)
    low1, high1 = _fisher_limits(first, total, confidence)
    low2, high2 = _fisher_limits(second, total, confidence)
    correlation = (
        (between - first * second / 2) * (1 - first**2 - second**2 - between**2) + between**3
    ) / ((1 - first**2) * (1 - second**2))

    def distance(one: float, other: float) -> float:
        # Not negative on paper; equal correlations of equal predictions leave rounding.
        return math.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other))

    difference = first - second
    return (
        difference - distance(first - low1, high2 - second),
        difference + distance(high1 - first, second - low2),
    )


def meng_test(first: float, second: float, between: float, *, total: int) -> float:
    """The standard normal statistic of "first = second"; 0 where both variables are the same.

    X.-L. Meng, R. Rosenthal and D. B. Rubin (1992), Comparing correlated correlation coefficients,
    Psychological Bulletin 111:172-175. DataError outside Fisher's z.
    """
    _check(first, second, between, total)
    if between == 1:
        return 0.0
    mean_square = (first**2 + second**2) / 2
    f = min(1.0, (1 - between) / (2 * (1 - mean_square)))
    h = (1 - f * mean_square) / (1 - mean_square)
    gap = math.atanh(first) - math.atanh(second)
    return gap * math.sqrt((total - 3) / (2 * (1 - between) * h))


def _fisher_limits(correlation: float, total: int, confidence: float) -> tuple[float, float]:
    reach = NormalDist().inv_cdf(confidence) / math.sqrt(total - 3)
    z = math.atanh(correlation)
    return math.tanh(z - reach), math.tanh(z + reach)


def _check(first: float, second: float, between: float, total: int) -> None:
    if total < FEWEST or not (abs(first) < 1 and abs(second) < 1 and abs(between) <= 1):
        raise DataError(
            "Fisher's z",
            expected=f"at least {FEWEST} examples and correlations between −1 and 1",
            found=f"{total} examples and {first}, {second}, {between}",
            remedy="compare over more examples",
        )
