import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nxmi_export.parity.statistics.mcnemar import mcnemar

counts = st.integers(0, 300)


@given(counts, counts)
def test_exact_p_value_is_scipys_binomial_test(gains: int, losses: int) -> None:
    total = gains + losses
    expected = stats.binomtest(gains, total, 0.5).pvalue if total else 1.0
    assert mcnemar(gains, losses).exact == pytest.approx(expected, rel=1e-9)


@given(counts, counts)
def test_mid_p_counts_the_data_themselves_by_half(gains: int, losses: int) -> None:
    total, fewer = gains + losses, min(gains, losses)
    if gains == losses:
        expected = 1 - stats.binom.pmf(fewer, total, 0.5) / 2 if total else 1.0
    else:
        below = stats.binom.cdf(fewer - 1, total, 0.5)
        expected = 2 * (below + stats.binom.pmf(fewer, total, 0.5) / 2)
    assert mcnemar(gains, losses).mid_p == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("gains", "losses", "exact", "mid_p"),
    [
        # Fagerland, Lydersen and Laake (2013): airway reactivity before and after stem cell
        # transplantation; complete response before and after consolidation therapy.
        (1, 7, 0.070, 0.039),
        (6, 16, 0.052, 0.035),
    ],
)
def test_published_examples(gains: int, losses: int, exact: float, mid_p: float) -> None:
    result = mcnemar(gains, losses)
    assert (round(result.exact, 3), round(result.mid_p, 3)) == (exact, mid_p)


def test_no_discordant_pair_says_nothing() -> None:
    result = mcnemar(0, 0)
    assert (result.exact, result.mid_p) == (1.0, 1.0)


def test_a_probability_below_the_smallest_float_stays_a_number() -> None:
    assert mcnemar(0, 40_430).exact == 0.0


@pytest.mark.parametrize("discordant", range(1, 40))
def test_exact_test_keeps_its_level(discordant: int) -> None:
    rejected = [
        stats.binom.pmf(gains, discordant, 0.5)
        for gains in range(discordant + 1)
        if mcnemar(gains, discordant - gains).exact <= 0.05
    ]
    assert sum(rejected) <= 0.05
