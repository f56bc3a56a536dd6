import numpy as np
import pytest
from scipy.stats import binom

from nxmi_export.bench.latency_statistics import latency, speedup


def test_percentiles_lie_between_the_runs_next_to_them() -> None:
    found = latency([float(each) for each in range(1, 102)])
    assert (found.runs, found.p10, found.p50, found.p90, found.p99) == (101, 11, 51, 91, 100)
    assert found.mean == 51
    assert found.spread == pytest.approx(51 / 11)


def test_what_disturbs_a_round_cancels_in_the_speed() -> None:
    # The machine is ten times slower in half of the rounds, the candidate always twice as fast.
    slow = [1.0, 10.0] * 10
    found = speedup([[4 * each] for each in slow], [[2 * each] for each in slow])
    assert (found.median, found.low, found.high) == (2, 2, 2)


def test_a_round_is_its_median_run() -> None:
    assert speedup([[3.0, 90.0, 3.0]], [[1.0, 1.0, 50.0]]).median == 3


@pytest.mark.parametrize("rounds", [1, 5])
def test_too_few_rounds_have_no_interval(rounds: int) -> None:
    found = speedup([[2.0]] * rounds, [[1.0]] * rounds)
    assert (found.median, found.low, found.high) == (2, None, None)


def test_six_rounds_are_the_first_that_bound_the_median() -> None:
    ratios = [3.0, 1.0, 2.0, 6.0, 5.0, 4.0]
    found = speedup([[each] for each in ratios], [[1.0]] * 6)
    # All six on one side of the median: 2 / 64 of the time.
    assert (found.median, found.low, found.high) == (3.5, 1.0, 6.0)


@pytest.mark.parametrize("rounds", [6, 7, 10, 25, 40, 100])
def test_the_interval_is_the_narrowest_that_holds_what_it_says(rounds: int) -> None:
    ratios = [float(each) for each in range(1, rounds + 1)]
    found = speedup([[each] for each in ratios], [[1.0]] * rounds)
    assert found.low is not None
    assert found.high == rounds + 1 - found.low
    k = int(found.low)
    assert binom.cdf(k - 1, rounds, 0.5) <= 0.025 < binom.cdf(k, rounds, 0.5)


def test_the_interval_covers_the_median_of_a_skewed_distribution() -> None:
    rng = np.random.default_rng(0)
    held, trials = 0, 2000
    for _ in range(trials):
        ratios = rng.exponential(size=20)  # its median is ln 2
        found = speedup([[each] for each in ratios], [[1.0]] * 20)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= np.log(2) <= found.high
    assert 0.94 < held / trials < 0.99  # 0.9586 for 20 rounds
