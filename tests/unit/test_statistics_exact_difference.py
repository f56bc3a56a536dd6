"""Limits and p-values of a difference of accuracies, against enumeration and published tables."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from nxmi_export.parity.statistics.exact_difference import SET_ERROR, exact_limits, p_above
from nxmi_export.parity.statistics.score_interval import score_limits, score_statistic

tables = st.integers(1, 400).flatmap(
    lambda total: st.tuples(st.integers(0, total), st.integers(0, total), st.just(total)).filter(
        lambda table: table[0] + table[1] <= total
    )
)


@given(tables)
def test_score_at_no_difference_is_mcnemars(table: tuple[int, int, int]) -> None:
    gains, losses, total = table
    expected = (gains - losses) / math.sqrt(gains + losses) if gains + losses else 0.0
    assert score_statistic(gains, losses, total, 0.0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("delta", [-0.3, -0.02, 0.1])
@pytest.mark.parametrize(("gains", "losses"), [(3, 9), (0, 4), (12, 0)])
def test_score_uses_the_most_likely_table_of_that_difference(
    gains: int, losses: int, delta: float
) -> None:
    total = 40

    def unlikelihood(p_loss: float) -> float:
        shares = (p_loss + delta, p_loss, 1 - 2 * p_loss - delta)
        return -float(
            stats.multinomial.logpmf((gains, losses, total - gains - losses), total, shares)
        )

    lowest, highest = max(0.0, -delta), (1 - delta) / 2
    found = optimize.minimize_scalar(
        unlikelihood, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-10}
    )
    variance = total * (2 * found.x + delta - delta**2)
    expected = (gains - losses - total * delta) / math.sqrt(variance)
    assert score_statistic(gains, losses, total, delta) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("gains", "losses", "total", "limits"),
    [
        # Fagerland, Lydersen and Laake (2014), Statistics in Medicine 33:2850-2875: Tango's 95 %
        # intervals of the airway reactivity study.
        (1, 7, 21, (-0.517, -0.026)),
        # With nothing changed the limits are ±z² / (total + z²).
        (0, 0, 100, (-0.037, 0.037)),
    ],
)
def test_published_score_limits(
    gains: int, losses: int, total: int, limits: tuple[float, float]
) -> None:
    found = score_limits(gains, losses, total, 0.975)
    assert tuple(round(limit, 3) for limit in found) == limits


@pytest.mark.parametrize("total", [1, 10, 408, 40_430])
def test_without_changes_the_rule_of_three_holds(total: int) -> None:
    lower, upper = exact_limits(0, 0, total, 0.95)
    rule = 1 - 0.05 ** (1 / total)
    assert upper == -lower == pytest.approx(rule, rel=1e-3)
    assert p_above(0, 0, total, -rule) == pytest.approx(0.05, abs=2 * SET_ERROR)


@pytest.mark.parametrize("losses", [1, 2, 5])
def test_losses_alone_have_the_clopper_pearson_limit(losses: int) -> None:
    expected = stats.beta.ppf(0.95, losses + 1, 1000 - losses)
    # The unknown gains cost a little where there are losses to hide them.
    assert -exact_limits(0, losses, 1000, 0.95)[0] == pytest.approx(expected, rel=0.01)


@settings(max_examples=12, deadline=None)
@given(tables)
def test_limits_hold_the_estimate_and_mirror_each_other(table: tuple[int, int, int]) -> None:
    gains, losses, total = table
    lower, upper = exact_limits(gains, losses, total, 0.95)
    assert -1 <= lower <= (gains - losses) / total <= upper <= 1
    assert exact_limits(losses, gains, total, 0.95) == (-upper, -lower)


@settings(max_examples=12, deadline=None)
@given(tables, st.floats(0.002, 0.3))
def test_limit_and_p_value_decide_alike(table: tuple[int, int, int], margin: float) -> None:
    gains, losses, total = table
    lower, upper = exact_limits(gains, losses, total, 0.95)
    slack = (upper - lower) * 1e-3  # the limits are found by bisection
    p_value = p_above(gains, losses, total, -margin)
    if lower > -margin + slack:
        assert p_value <= 0.05
    elif lower < -margin - slack:
        assert p_value > 0.05


@cache
def rejected(total: int, delta: float) -> tuple[tuple[int, int], ...]:
    """Every (gains, losses) that passes the test at 5 %."""
    return tuple(
        (gains, losses)
        for gains in range(total + 1)
        for losses in range(total + 1 - gains)
        if p_above(gains, losses, total, delta) <= 0.05
    )


@pytest.mark.parametrize(("total", "delta"), [(12, -0.2), (25, -0.1), (25, 0.1), (30, -0.05)])
@pytest.mark.parametrize("rate", [0.11, 0.15, 0.21, 0.333, 0.5, 0.77, 0.98])
def test_a_model_at_the_margin_passes_in_five_of_a_hundred_at_most(
    total: int, delta: float, rate: float
) -> None:
    if rate < abs(delta):
        rate = abs(delta)  # what changes is at least what is lost
    p_gain, p_loss = (rate + delta) / 2, (rate - delta) / 2
    distribution = stats.multinomial(total, (p_gain, p_loss, 1 - p_gain - p_loss))
    passing = [(g, x, total - g - x) for g, x in rejected(total, delta)]
    size = float(np.sum(distribution.pmf(passing))) if passing else 0.0
    assert size <= 0.05


def test_the_approximate_limit_passes_too_often_where_few_examples_changed() -> None:
    """Why the exact test exists: at P(loss) 2.75 / n, no loss is seen in 6.4 % of the runs."""
    total, p_loss = 1000, 0.00275
    assert score_limits(0, 0, total, 0.95)[0] > -p_loss  # so each such run would pass
    assert exact_limits(0, 0, total, 0.95)[0] < -p_loss
    assert (1 - p_loss) ** total == pytest.approx(0.064, abs=1e-3)


@pytest.mark.parametrize(("p_gain", "p_loss"), [(0.001, 0.004), (0.005, 0.005), (0.0, 0.01)])
def test_limits_cover_the_true_difference(p_gain: float, p_loss: float) -> None:
    generator, total, runs = np.random.default_rng(7), 300, 400
    draws = generator.multinomial(total, (p_gain, p_loss, 1 - p_gain - p_loss), size=runs)

    @cache
    def limits(gains: int, losses: int) -> tuple[float, float]:
        return exact_limits(gains, losses, total, 0.95)

    found = np.array([limits(int(gains), int(losses)) for gains, losses, _ in draws])
    truth = p_gain - p_loss
    # Three standard errors of a simulated 5 %.
    assert np.mean(found[:, 0] > truth) <= 0.05 + 0.033
    assert np.mean(found[:, 1] < truth) <= 0.05 + 0.033


@pytest.mark.parametrize("total", [5_463, 9_815, 40_430])
@pytest.mark.parametrize("changed", [0, 3])
def test_hardly_any_change_rules_out_a_gain_and_shows_none(total: int, changed: int) -> None:
    """Where so little changed that a difference of the margin is impossible."""
    assert p_above(changed, changed, total, -0.005) < 1e-5
    assert p_above(changed, changed, total, 0.005) == 1.0
    lower, upper = exact_limits(changed, changed, total, 0.95)
    assert -0.005 < lower <= 0 <= upper < 0.005
