"""Running rungs and comparing them, with runners whose logits are known."""

import math

import numpy as np
import pytest
from parity_models import FakeRunner, numbered, rung

from nxmi_export.errors import DataError, UsageError
from nxmi_export.parity import PredictionChange, compare, run_rung


def test_logits_come_back_in_dataset_order() -> None:
    logits = [[0, 1], [2, 1], [0, 3], [4, 0], [0, 5]]
    result = rung(logits)
    np.testing.assert_array_equal(result.logits, np.float32(logits))
    assert result.predictions is not None
    assert result.predictions.tolist() == [1, 0, 1, 0, 1]
    assert result.logits.dtype == np.float32


def test_scores_are_those_of_the_task() -> None:
    result = rung([[1, 0], [0, 1], [1, 0], [1, 0]])  # labels 0, 1, 0, 1
    assert result.scores == {"accuracy": 0.75}
    assert result.primary == 0.75


def test_progress_counts_examples() -> None:
    seen: list[tuple[int, int]] = []
    runner = FakeRunner(np.zeros((5, 2)))
    run_rung(runner, numbered(5), batch_tokens=16, on_batch=lambda *each: seen.append(each))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert runner.batches == [(2, 8), (2, 6), (1, 4)]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_a_result_without_scores(broken: float) -> None:
    result = rung([[1, 0], [broken, 1], [1, 0]])
    assert result.non_finite.tolist() == [1]
    assert result.predictions is None
    assert math.isnan(result.primary)
    assert list(map(math.isnan, result.scores.values())) == [True]


def test_logits_of_another_width_are_refused() -> None:
    with pytest.raises(DataError) as error:
        rung(np.zeros((3, 5)))
    assert str(error.value) == (
        "fake: logits of sst2: expected the shape (2, 2), found (2, 5); "
        "use a model that was trained for this task"
    )


def test_examples_whose_logits_are_not_the_same_bits_are_listed() -> None:
    above = np.nextafter(np.float32(3), np.float32(4))
    comparison = compare(rung([[1, 0], [0, 3], [2, 0]]), rung([[1, -0.0], [0, above], [2, 0]]))
    assert comparison.changes == ()
    assert comparison.different == (0, 1)


def test_equal_rungs_do_not_differ() -> None:
    comparison = compare(rung([[1, 0], [0, 1]]), rung([[1, 0], [0, 1]]))
    assert comparison.comparable
    assert comparison.changes == ()
    assert comparison.different == ()
    assert comparison.largest_logit_gap == 0
    assert comparison.score_differences == {"accuracy": 0.0}


def test_a_changed_prediction_is_described() -> None:
    before = rung([[1.0, 0.0], [0.0, 1.0], [0.5, 0.25]], name="pytorch")
    after = rung([[1.0, 0.0], [0.0, 1.0], [0.5, 1.5]], name="onnx")
    comparison = compare(before, after)
    assert comparison.changes == (
        PredictionChange(
            index=2,
            id=102,
            texts=("sentence 2",),
            label=0,
            before=0,
            after=1,
            margin_before=0.25,
            margin_after=1.0,
        ),
    )
    assert (comparison.reference, comparison.candidate) == ("pytorch", "onnx")
    assert comparison.largest_logit_gap == 1.25
    assert comparison.primary_difference == pytest.approx(-1 / 3)


def test_logits_that_move_without_deciding_change_nothing() -> None:
    comparison = compare(rung([[1, 0]]), rung([[3, 0]]))
    assert (comparison.changes, comparison.largest_logit_gap) == ((), 2.0)


def test_a_score_has_changed_when_it_moved_by_over_a_hundredth_of_the_range() -> None:
    before = rung([[1.0], [2.0], [3.0]], task="stsb")
    comparison = compare(before, rung([[1.049], [1.949], [3.0]], task="stsb"))
    (change,) = comparison.changes
    assert change.index == 1
    assert change.texts == ("sentence1 1", "sentence2 1")
    assert math.isnan(change.margin_before)
    assert set(comparison.score_differences) == {"pearson", "spearman"}


def test_a_rung_without_numbers_is_not_comparable() -> None:
    comparison = compare(rung([[1, 0]]), rung([[math.inf, 0]]))
    assert not comparison.comparable
    assert comparison.changes == ()
    assert math.isnan(comparison.primary_difference)


def test_two_infinities_do_not_agree() -> None:
    assert not compare(rung([[math.inf, 0]]), rung([[math.inf, 0]])).comparable


def test_rungs_over_different_examples_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        compare(rung([[1, 0]], name="pytorch"), rung([[1, 0], [0, 1]], name="onnx"))
    assert str(error.value) == (
        "comparing onnx with pytorch: expected the same examples in the same order, found 2 of "
        "sst2 validation and 1 of sst2 validation; run both rungs over one dataset"
    )
