import math

import numpy as np
import pytest
from scipy import stats

from nxmi_export.errors import DataError
from nxmi_export.glue import TASKS
from nxmi_export.parity.statistics import Pairs
from nxmi_export.parity.statistics.correlations import (
    correlation_difference,
    meng_test,
    zou_limits,
)

STSB = TASKS["stsb"]


def test_published_example_of_zou() -> None:
    """Zou (2007): two predictors of one variable, 66 cases, a 95 % interval."""
    limits = zou_limits(0.396, 0.179, 0.088, total=66, confidence=0.975)
    assert tuple(round(limit, 3) for limit in limits) == (-0.093, 0.517)


def test_published_example_of_meng_rosenthal_and_rubin() -> None:
    """Meng, Rosenthal and Rubin (1992): z = 1.68, one-tailed p = .047."""
    statistic = meng_test(0.63, -0.03, -0.19, total=15)
    assert round(statistic, 2) == 1.68
    assert round(stats.norm.sf(statistic), 3) == 0.047


@pytest.mark.parametrize("between", [-0.2, 0.5, 0.99])
def test_exchanging_the_models_turns_the_sign(between: float) -> None:
    lower, upper = zou_limits(0.5, 0.45, between, total=100, confidence=0.95)
    mirrored = zou_limits(0.45, 0.5, between, total=100, confidence=0.95)
    assert mirrored == pytest.approx((-upper, -lower))
    assert meng_test(0.45, 0.5, between, total=100) == pytest.approx(
        -meng_test(0.5, 0.45, between, total=100)
    )


def test_equal_predictions_do_not_differ() -> None:
    assert meng_test(0.8, 0.8, 1.0, total=100) == 0.0
    # What is left is how far a limit above and one below lie from a correlation of 0.8.
    above, below = (math.tanh(math.atanh(0.8) + side * 1.6449 / math.sqrt(97)) for side in (1, -1))
    left = (0.8 - below) - (above - 0.8)
    limits = zou_limits(0.8, 0.8, 1.0, total=100, confidence=0.95)
    assert limits == pytest.approx((-left, left), abs=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "total", "found"),
    [
        (1.0, 0.9, 50, "50 examples and 1.0, 0.9, 0.5"),
        (0.8, 0.9, 3, "3 examples and 0.8, 0.9, 0.5"),
        (math.nan, 0.9, 50, "50 examples and nan, 0.9, 0.5"),
    ],
)
def test_what_fishers_z_cannot_transform_is_refused(
    first: float, second: float, total: int, found: str
) -> None:
    message = (
        "Fisher's z: expected at least 4 examples and correlations between −1 and 1, found "
        f"{found}; compare over more examples"
    )
    with pytest.raises(DataError) as zou:
        zou_limits(first, second, 0.5, total=total, confidence=0.95)
    with pytest.raises(DataError) as meng:
        meng_test(first, second, 0.5, total=total)
    assert (str(zou.value), str(meng.value)) == (message, message)


def test_predictions_that_are_the_labels_have_no_fisher_z() -> None:
    labels = np.array([0.0, 1.0, 2.0, 4.0, 5.0])
    assert correlation_difference(Pairs(STSB, labels, labels, labels[::-1].copy()), 0.95) is None


def test_limits_and_test_keep_their_level() -> None:
    """Three normal variables, two of them equally related to the first."""
    generator, total, runs = np.random.default_rng(3), 150, 1000
    covariance = [[1, 0.7, 0.7], [0.7, 1, 0.9], [0.7, 0.9, 1]]
    samples = generator.multivariate_normal([0, 0, 0], covariance, size=(runs, total))
    missed, rejected = np.zeros(2), 0
    for labels, reference, candidate in samples.transpose(0, 2, 1):
        result = correlation_difference(Pairs(STSB, labels, reference, candidate), 0.95)
        assert result is not None
        missed += (result.lower > 0, result.upper < 0)
        rejected += result.p_equal < 0.05
    assert missed / runs == pytest.approx([0.05, 0.05], abs=0.021)
    assert rejected / runs == pytest.approx(0.05, abs=0.021)
