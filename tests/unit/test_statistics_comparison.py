"""Whole comparisons: which conclusion is drawn, why, how often wrongly, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nxmi_export.errors import DataError, UsageError
from nxmi_export.glue import TASKS
from nxmi_export.parity.statistics import Claim, Conclusion, Pairs, Terms, compare_scores
from nxmi_export.parity.statistics.exact_difference import p_above

SST2, MRPC, COLA, STSB, MNLI = (TASKS[name] for name in ("sst2", "mrpc", "cola", "stsb", "mnli"))
QUICK = Terms(resamples=999)


def answered(total: int, *, gains: int = 0, losses: int = 0, task: str = "sst2") -> Pairs:
    """Labels in turn; the candidate gains on the last examples and loses on the first."""
    labels = np.arange(total, dtype=np.int64) % 2
    reference, candidate = labels.copy(), labels.copy()
    candidate[:losses] = 1 - labels[:losses]
    if gains:
        reference[-gains:] = 1 - labels[-gains:]
    return Pairs(TASKS[task], labels, reference, candidate)


def rated(total: int, *, shift: float, noise: float = 0.0) -> Pairs:
    """A regression whose candidate adds noise, and `shift` to all, which no metric sees."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 26, total) / 5
    reference = labels + 0.5 * generator.normal(size=total)
    return Pairs(STSB, labels, reference, reference + shift + noise * generator.normal(size=total))


@pytest.mark.parametrize(
    ("pairs", "conclusion"),
    [
        (answered(2000), Conclusion.EQUIVALENT),
        (answered(2000, gains=1, losses=1), Conclusion.EQUIVALENT),
        (answered(500), Conclusion.INCONCLUSIVE),  # half a point takes 598 examples
        (answered(2000, losses=60), Conclusion.INFERIOR),
        (answered(2000, gains=60), Conclusion.NOT_INFERIOR),
        (answered(2000, losses=10), Conclusion.INCONCLUSIVE),  # the margin itself
        (answered(5000, task="mrpc"), Conclusion.EQUIVALENT),
        (answered(408, task="mrpc"), Conclusion.INCONCLUSIVE),
        (answered(2000, losses=100, task="cola"), Conclusion.INFERIOR),
        (rated(1500, shift=0.0), Conclusion.EQUIVALENT),
        (rated(1500, shift=1.0, noise=0.01), Conclusion.EQUIVALENT),
        (rated(1500, shift=0.0, noise=1.0), Conclusion.INFERIOR),
        (rated(300, shift=0.0), Conclusion.INCONCLUSIVE),
        # what a few nearly equal scores say of all others does not depend on their last bits
        (rated(300, shift=0.0, noise=1e-7), Conclusion.INCONCLUSIVE),
        (rated(1500, shift=0.0, noise=1e-7), Conclusion.EQUIVALENT),
    ],
)
def test_conclusion(pairs: Pairs, conclusion: Conclusion) -> None:
    assert compare_scores(pairs, QUICK).conclusion is conclusion


def test_five_hundred_and_ninety_eight_examples_certify_half_a_point() -> None:
    enough, too_few = (compare_scores(answered(total)) for total in (598, 597))
    assert enough.conclusion is Conclusion.EQUIVALENT
    assert too_few.conclusion is Conclusion.INCONCLUSIVE


def test_reasons_say_what_was_shown_and_what_was_not() -> None:
    result = compare_scores(answered(2000, gains=60), QUICK)
    assert [str(reason) for reason in result.reasons] == [
        "no drop beyond 0.5 points is shown at 95 % confidence (p = 1e-06)",
        "no gain beyond 0.5 points is not shown at 95 % confidence (p = 1)",
        "a drop beyond 0.5 points is not shown at 95 % confidence (p = 1)",
    ]


def test_a_comparison_reads_as_a_sentence() -> None:
    assert str(compare_scores(answered(2000, losses=60), QUICK)) == (
        "sst2: inferior; the accuracy of 2000 examples changed by -3.00 points, -3.71 to -2.40 "
        "with 95 % confidence in each limit"
    )


def test_power_says_what_the_dev_set_cannot_certify() -> None:
    assert str(compare_scores(answered(408, gains=4, losses=5)).power) == (
        "This dev set cannot certify a drop below 0.73 points, even if no prediction changes; with "
        "as many changes as seen, it certifies 1.83 points for 80% of the models that lose nothing."
    )


def test_an_equal_model_meets_the_detectable_margin_as_often_as_stated() -> None:
    total, rate = 1000, 0.05
    power = compare_scores(answered(total, gains=25, losses=25)).power
    draws = np.random.default_rng(0).multinomial(total, (rate / 2, rate / 2, 1 - rate), size=300)
    passed = [p_above(int(g), int(x), total, -power.detectable) <= 0.05 for g, x, _ in draws]
    assert np.mean(passed) == pytest.approx(power.power, abs=0.07)  # three standard errors


@pytest.mark.parametrize("task", ["mrpc", "cola"])
def test_where_nothing_changed_the_floor_of_another_metric_is_its_limit(task: str) -> None:
    result = compare_scores(answered(400, task=task))
    assert result.standard_error == 0
    assert result.power.floor == pytest.approx(-result.lower, rel=0.05)
    assert result.power.detectable == result.power.floor > 0.005


def test_a_wrong_answer_that_becomes_another_wrong_answer_is_no_loss() -> None:
    labels = np.zeros(3000, np.int64)
    reference, candidate = labels.copy(), labels.copy()
    reference[:50], candidate[:50] = 1, 2
    result = compare_scores(Pairs(MNLI, labels, reference, candidate))
    assert (result.changed, result.difference) == (50, 0.0)
    assert result.conclusion is Conclusion.EQUIVALENT


def test_the_same_terms_give_the_same_result() -> None:
    pairs = answered(600, gains=3, losses=5, task="mrpc")
    assert compare_scores(pairs, QUICK) == compare_scores(pairs, QUICK)
    other = compare_scores(pairs, Terms(resamples=999, seed=1))
    assert other.lower != compare_scores(pairs, QUICK).lower


@settings(max_examples=15, deadline=None)
@given(
    st.integers(20, 300), st.integers(0, 9), st.integers(0, 9), st.sampled_from(["sst2", "cola"])
)
def test_limits_hold_the_difference_and_claims_exclude_each_other(
    total: int, gains: int, losses: int, task: str
) -> None:
    result = compare_scores(answered(total, gains=gains, losses=losses, task=task), QUICK)
    assert result.lower - 1e-12 <= result.difference <= result.upper + 1e-12
    proved = {reason.claim for reason in result.reasons if reason.proved}
    assert not {Claim.NO_DROP, Claim.DROP} <= proved


@settings(max_examples=25, deadline=None)
@given(
    st.integers(30, 400),
    st.floats(0.001, 3),
    st.floats(0.005, 0.3),
    st.sampled_from(["better", "worse"]),
)
def test_what_is_claimed_of_a_regression_is_what_its_limits_say(
    total: int, noise: float, margin: float, way: str
) -> None:
    pairs = rated(total, shift=0.0, noise=noise)
    if way == "better":
        pairs = Pairs(pairs.task, pairs.labels, pairs.candidate, pairs.reference)
    result = compare_scores(pairs, Terms(resamples=999, margin=margin))
    floor = result.power.floor
    assert result.lower <= result.difference - floor < result.difference + floor <= result.upper
    # A limit and a p-value are read from the replicates a rounding apart.
    step = 0.1 * (result.upper - result.lower)
    proved = {reason.claim for reason in result.reasons if reason.proved}
    assert Claim.NO_DROP not in proved or result.lower >= -margin - step
    assert Claim.NO_GAIN not in proved or result.upper <= margin + step
    assert Claim.DROP not in proved or result.upper <= -margin + step
    assert Claim.NO_DROP in proved or result.lower <= -margin + step
    assert Claim.DROP in proved or result.upper >= -margin - step


@pytest.mark.parametrize(
    "pairs", [answered(100, losses=2), answered(100, task="cola"), rated(50, shift=0.0, noise=0.1)]
)
def test_json_is_plain_and_complete(pairs: Pairs) -> None:
    result = compare_scores(pairs, QUICK)
    document = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert document["conclusion"] == result.conclusion.value
    assert [each["sentence"] for each in document["reasons"]] == [str(r) for r in result.reasons]
    assert document["power"]["sentence"] == str(result.power)
    assert (document["mcnemar"] is None) is pairs.task.is_regression
    assert (document["correlation"] is None) is not pairs.task.is_regression


def test_one_example_proves_nothing() -> None:
    result = compare_scores(answered(1))
    assert result.conclusion is Conclusion.INCONCLUSIVE
    assert result.power.floor == pytest.approx(0.95)


def test_a_model_that_collapsed_to_one_class_is_inferior() -> None:
    pairs = answered(400, task="cola")
    collapsed = Pairs(COLA, pairs.labels, pairs.reference, np.ones_like(pairs.labels))
    assert compare_scores(collapsed, QUICK).conclusion is Conclusion.INFERIOR


INTEGERS, RATINGS = np.array([0, 1, 1]), np.array([0.0, 2.5, 5.0])


@pytest.mark.parametrize(
    ("task", "labels", "reference", "candidate", "message"),
    [
        (
            SST2, INTEGERS, INTEGERS, np.eye(3),
            "the candidate's predictions of sst2: expected one per label, shape (3,), found shape "
            "(3, 3); pass predictions, not logits, of the same examples",
        ),
        (
            SST2, INTEGERS[:0], INTEGERS[:0], INTEGERS[:0],
            "labels of sst2: expected the shape (examples,) with at least one, found (0,); compare "
            "over a whole dev set",
        ),
        (
            SST2, INTEGERS, np.array([0, 2, 1]), INTEGERS,
            "the reference's predictions of sst2, row 1: expected classes 0…1, found 2; such a "
            "model cannot be compared; find where the value arises",
        ),
        (
            STSB, RATINGS, RATINGS, np.array([1.0, 2.0, np.nan]),
            "the candidate's predictions of stsb, row 2: expected finite numbers, found nan; such "
            "a model cannot be compared; find where the value arises",
        ),
        (
            COLA, np.ones(3, np.int64), INTEGERS, INTEGERS,
            "labels of cola: expected examples of both classes, without which there is no "
            "matthews, found only class 1; compare over the whole dev set",
        ),
        (
            STSB, RATINGS, RATINGS, np.full(3, 2.5),
            "the candidate's predictions of stsb: expected values that vary, without which there "
            "is no correlation, found 2.5 for all 3 examples; a model that says the same of every "
            "example needs no statistics",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    task: Any, labels: Any, reference: Any, candidate: Any, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        Pairs(task, labels, reference, candidate)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (
            {"margin": 0.0},
            "margin: expected a score difference between 0 and 1, ends excluded, found 0.0; no "
            "data can show two scores to be equal; half a point is 0.005",
        ),
        (
            {"confidence": 95.0},
            "confidence: expected a share between 0.5 and 1, ends excluded, found 95.0; 95 % is "
            "0.95",
        ),
        ({"resamples": 100}, "resamples: expected at least 999, found 100; 9999 is the default"),
    ],
)
def test_terms_that_prove_nothing_are_refused(terms: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Terms(**terms)
    assert str(caught.value) == message
