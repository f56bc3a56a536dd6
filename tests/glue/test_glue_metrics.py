import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sklearn_metrics

from nxmi_export.errors import DataError
from nxmi_export.glue import TASKS, predict, primary, score
from nxmi_export.glue.metrics import accuracy, f1, matthews, pearson, spearman

SST2, MRPC, STSB, MNLI, COLA = (TASKS[name] for name in ("sst2", "mrpc", "stsb", "mnli", "cola"))

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

lengths = st.integers(1, 40)
binary_pairs = lengths.flatmap(
    lambda rows: st.tuples(*[arrays(np.int64, rows, elements=st.integers(0, 1))] * 2)
)
# Sixty-fourths: sums are exact, so the reference's own rounding is not what is compared; few
# values, so that ties and constant arrays come up.
score_pairs = lengths.flatmap(
    lambda rows: st.tuples(*[arrays(np.int64, rows, elements=st.integers(-9, 320))] * 2)
).map(lambda pair: (pair[0] / 64, pair[1] / 64))


@given(binary_pairs)
def test_accuracy_is_scikit_learns(pair: tuple[Integers, Integers]) -> None:
    predictions, labels = pair
    expected = sklearn_metrics.accuracy_score(labels, predictions)
    assert accuracy(predictions, labels) == pytest.approx(expected, abs=1e-12)


@given(binary_pairs)
def test_f1_is_scikit_learns_with_zero_where_it_is_undefined(
    pair: tuple[Integers, Integers],
) -> None:
    predictions, labels = pair
    expected = sklearn_metrics.f1_score(labels, predictions, zero_division=0.0)
    assert f1(predictions, labels) == pytest.approx(expected, abs=1e-12)


@given(binary_pairs)
def test_matthews_is_scikit_learns(pair: tuple[Integers, Integers]) -> None:
    predictions, labels = pair
    # scikit-learn warns about a single class in both arrays; there the promise is ours.
    if len(np.unique(np.concatenate(pair))) == 1:
        assert matthews(predictions, labels) == 0.0
        return
    expected = sklearn_metrics.matthews_corrcoef(labels, predictions)
    assert matthews(predictions, labels) == pytest.approx(expected, abs=1e-12)


def is_constant(values: Floats) -> bool:
    return len(np.unique(values)) == 1


@given(score_pairs)
def test_pearson_is_scipys_and_nan_for_a_constant(pair: tuple[Floats, Floats]) -> None:
    if any(map(is_constant, pair)):
        assert math.isnan(pearson(*pair))
        return
    assert pearson(*pair) == pytest.approx(stats.pearsonr(*pair).statistic, abs=1e-12)


@given(score_pairs)
def test_spearman_is_scipys_and_nan_for_a_constant(pair: tuple[Floats, Floats]) -> None:
    if any(map(is_constant, pair)):
        assert math.isnan(spearman(*pair))
        return
    assert spearman(*pair) == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-12)


@given(score_pairs)
def test_correlations_stay_within_one(pair: tuple[Floats, Floats]) -> None:
    for values in pair:
        if not is_constant(values):
            assert pearson(values, values) == pytest.approx(1.0, abs=1e-12)
            assert pearson(values, values) <= 1.0
            assert pearson(values, -values) >= -1.0


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_pearson_does_not_depend_on_the_size_of_the_numbers(size: float) -> None:
    labels = np.array([0.0, 1.0, 3.0, 4.0])
    predictions = np.array([0.5, 1.0, 2.0, 5.0])
    expected = stats.pearsonr(predictions, labels).statistic
    assert pearson(predictions * size, labels) == pytest.approx(expected, abs=1e-12)


def test_matthews_of_a_hundred_thousand_rows_does_not_overflow() -> None:
    labels = np.arange(400_000) % 2
    predictions = np.where(np.arange(400_000) < 100_000, 1 - labels, labels)
    assert matthews(predictions, labels) == pytest.approx(0.5, abs=1e-12)


class TestScore:
    """Scores by name, and the one number that GLUE reports of them."""

    def test_paraphrases_have_accuracy_and_f1_and_report_their_mean(self) -> None:
        # TP 2, FP 1, FN 1: F1 = 4/6
        scores = score(MRPC, np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]))
        assert scores == {"accuracy": pytest.approx(3 / 5), "f1": pytest.approx(2 / 3)}
        assert primary(MRPC, scores) == pytest.approx((3 / 5 + 2 / 3) / 2)

    def test_similarity_has_two_correlations_and_reports_their_mean(self) -> None:
        scores = score(STSB, np.array([0.0, 1.0, 2.0, 9.0]), np.array([0.0, 1.0, 2.0, 3.0]))
        assert scores["spearman"] == pytest.approx(1.0)
        # deviations (-3, -2, -1, 6) and (-1.5, -0.5, 0.5, 1.5): 14 / sqrt(50 * 5)
        assert scores["pearson"] == pytest.approx(14 / math.sqrt(250))
        assert primary(STSB, scores) == pytest.approx((1 + 14 / math.sqrt(250)) / 2)

    def test_acceptability_reports_matthews(self) -> None:
        # TP 2, TN 1, FP 1, FN 0: (2*1 - 1*0) / sqrt(3 * 2 * 2 * 1)
        scores = score(COLA, np.array([1, 1, 1, 0]), np.array([1, 1, 0, 0]))
        assert scores == {"matthews": pytest.approx(2 / math.sqrt(12))}
        assert primary(COLA, scores) == scores["matthews"]

    def test_three_classes_report_accuracy(self) -> None:
        scores = score(MNLI, np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]))
        assert scores == {"accuracy": 0.75}
        assert primary(MNLI, scores) == 0.75

    def test_constant_predictions_have_zero_matthews_and_zero_f1(self) -> None:
        labels = np.array([0, 1, 1])
        assert score(COLA, np.ones(3, np.int64), labels) == {"matthews": 0.0}
        assert score(MRPC, np.zeros(3, np.int64), labels)["f1"] == 0.0

    def test_constant_regression_has_no_correlation_and_reports_nan(self) -> None:
        scores = score(STSB, np.full(3, 2.5), np.array([0.0, 1.0, 2.0]))
        assert math.isnan(scores["pearson"])
        assert math.isnan(scores["spearman"])
        assert math.isnan(primary(STSB, scores))

    @pytest.mark.parametrize(
        ("predictions", "labels", "expected", "found"),
        [
            (np.zeros(2, np.int64), np.zeros(3, np.int64), "(3,)", "(2,)"),
            (np.zeros((3, 2)), np.zeros(3, np.int64), "(3,)", "(3, 2)"),
            (np.zeros(0, np.int64), np.zeros(0, np.int64), "(0,)", "(0,)"),
            (np.zeros((3, 1)), np.zeros((3, 1)), "(3, 1)", "(3, 1)"),
        ],
    )
    def test_predictions_that_are_not_one_per_label_are_refused(
        self, predictions: Integers, labels: Integers, expected: str, found: str
    ) -> None:
        with pytest.raises(DataError) as caught:
            score(SST2, predictions, labels)
        assert str(caught.value) == (
            "predictions of sst2: expected one per label and at least one, "
            f"shape {expected}, found shape {found}; "
            "score predictions of the same rows, all of them"
        )

    def test_predictions_that_are_not_finite_are_refused(self) -> None:
        with pytest.raises(DataError) as caught:
            score(STSB, np.array([0.0, math.inf]), np.array([0.0, 1.0]))
        assert str(caught.value) == (
            "predictions of stsb, row 1: expected finite numbers, found inf; "
            "a model that gives these has no score; find where they arise"
        )


class TestPredict:
    """Logits to classes or numbers."""

    def test_class_is_the_highest_logit(self) -> None:
        logits = np.array([[0.1, 0.9, -4.0], [3.0, -1.0, 2.0]], np.float32)
        predictions = predict(MNLI, logits)
        assert predictions.tolist() == [1, 0]
        assert predictions.dtype == np.int64

    def test_tie_goes_to_the_lowest_class(self) -> None:
        assert predict(MNLI, np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])).tolist() == [1, 0]

    @pytest.mark.parametrize("shape", [(3, 1), (3,)])
    def test_regression_is_the_number_itself(self, shape: tuple[int, ...]) -> None:
        logits = np.array([0.5, -1.0, 7.25], np.float16).reshape(shape)
        predictions = predict(STSB, logits)
        assert predictions.tolist() == [0.5, -1.0, 7.25]
        assert predictions.dtype == np.float64

    @pytest.mark.parametrize("shape", [(4, 2), (4,), (4, 1), (2, 2, 3)])
    def test_logits_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(DataError) as caught:
            predict(MNLI, np.zeros(shape))
        assert str(caught.value) == (
            f"logits of mnli: expected the shape (rows, 3), found {shape}; "
            "use a model that was trained for this task"
        )

    def test_regression_with_two_outputs_is_refused(self) -> None:
        with pytest.raises(DataError) as caught:
            predict(STSB, np.zeros((4, 2)))
        assert str(caught.value) == (
            "logits of stsb: expected the shape (rows, 1), found (4, 2); "
            "use a model that was trained for this task"
        )

    @pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (-math.inf, "-inf")])
    def test_logits_that_are_not_finite_are_refused(self, value: float, shown: str) -> None:
        logits = np.zeros((4, 2))
        logits[2, 1] = value
        with pytest.raises(DataError) as caught:
            predict(SST2, logits)
        assert str(caught.value) == (
            f"logits of sst2, row 2: expected finite numbers, found {shown}; "
            "a model that gives these has no score; find where they arise"
        )
