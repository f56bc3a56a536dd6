"""Several tasks at once: Holm's correction, and what is claimed of all."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxmi_export.errors import UsageError
from nxmi_export.glue import TASKS
from nxmi_export.parity.statistics import (
    Conclusion,
    Pairs,
    ScoreComparison,
    Terms,
    compare_scores,
    judge_all,
)
from nxmi_export.parity.statistics.family import holm

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def compared(total: int, *, losses: int = 0, gains: int = 0) -> ScoreComparison:
    labels = np.zeros(total, np.int64)
    reference, candidate = labels.copy(), labels.copy()
    candidate[:losses] = 1
    if gains:
        reference[-gains:] = 1
    return compare_scores(Pairs(TASKS["sst2"], labels, reference, candidate), Terms())


def test_the_smallest_is_multiplied_most_and_none_overtakes_another() -> None:
    # 4 × 0.005, 3 × 0.01, 2 × 0.03, and 0.04 raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


@given(p_lists, st.sampled_from([0.01, 0.05, 0.2]))
def test_adjusted_values_reject_what_holms_steps_reject(values: list[float], level: float) -> None:
    rejected = set()
    for step, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[place] * (len(values) - step) > level:
            break
        rejected.add(place)
    assert {place for place, value in enumerate(holm(values)) if value <= level} == rejected


@given(p_lists)
def test_adjusted_values_keep_their_order_and_never_shrink(values: list[float]) -> None:
    adjusted = holm(values)
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.asarray(adjusted)[order]) >= 0)
    assert all(one <= other <= 1 for one, other in zip(values, adjusted, strict=True))


def test_false_alarms_over_nine_tasks_stay_below_the_level() -> None:
    values = np.random.default_rng(0).random((4000, 9))
    alarms = np.mean([min(holm(row)) <= 0.05 for row in values])
    assert np.mean(values.min(axis=1) <= 0.05) > 0.35  # what looking nine times costs otherwise
    assert alarms == pytest.approx(0.05, abs=0.011)  # three standard errors


def test_a_drop_shown_alone_may_not_be_shown_among_nine() -> None:
    doubtful, fine = compared(2000, losses=18), compared(2000)
    assert doubtful.conclusion is Conclusion.INFERIOR
    family = judge_all({"doubtful": doubtful, **{f"fine {i}": fine for i in range(8)}})
    assert family.members["doubtful"].conclusion is Conclusion.INCONCLUSIVE
    assert family.conclusion is Conclusion.INCONCLUSIVE


def test_all_tasks_together_need_no_correction() -> None:
    barely = compared(700)  # p = 0.03, which among nine is 0.27
    family = judge_all({f"task {i}": barely for i in range(9)})
    assert {each.conclusion for each in family.members.values()} == {Conclusion.INCONCLUSIVE}
    assert family.conclusion is Conclusion.EQUIVALENT


@pytest.mark.parametrize(
    ("other", "conclusion"),
    [
        (compared(5000), Conclusion.EQUIVALENT),
        (compared(5000, gains=200), Conclusion.NOT_INFERIOR),
        (compared(5000, losses=200), Conclusion.INFERIOR),
        (compared(50), Conclusion.INCONCLUSIVE),
    ],
)
def test_the_family_is_as_good_as_its_weakest_task(
    other: ScoreComparison, conclusion: Conclusion
) -> None:
    assert judge_all({"one": compared(5000), "other": other}).conclusion is conclusion


def test_one_task_is_judged_as_it_is_alone() -> None:
    alone = compared(2000, losses=3)
    member = judge_all({"sst2": alone}).members["sst2"]
    assert member.reasons == alone.reasons


def test_json_has_the_corrected_values_beside_the_plain_ones() -> None:
    family = judge_all({"one": compared(700), "other": compared(700)})
    document = json.loads(json.dumps(family.as_json(), allow_nan=False))
    plain = document["members"]["one"]["comparison"]["reasons"][0]
    adjusted = document["members"]["one"]["adjusted"][plain["claim"]]
    assert adjusted == pytest.approx(2 * plain["p_value"])
    assert document["conclusion"] == "equivalent"


def test_nothing_to_judge_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        judge_all({})
    assert str(caught.value) == (
        "judging several tasks: expected at least one comparison, all with one confidence, found "
        "none; compare them on the same terms"
    )


def test_comparisons_on_different_terms_are_refused() -> None:
    one = compared(100)
    other = replace(one, terms=Terms(confidence=0.99))
    with pytest.raises(UsageError, match=r"found 0\.95 and 0\.99; compare them on the same terms"):
        judge_all({"one": one, "other": other})
