"""Rows that run again: alone where that says the same, in their batch where it does not."""

import numpy as np
import pytest
from parity_models import FakeRunner, numbered, rung

from nxmi_export.backends import Feeds, Outputs
from nxmi_export.parity.logits import Float32Array
from nxmi_export.parity.rerun import Rows, Same, same_bits, same_predictions

LOGITS = np.array([[0.25, -0.5], [-1, 1], [0.125, 0], [0, 2]], np.float32)
NEXT = np.nextafter(np.float32(0.25), np.float32(1))
BOTH = pytest.mark.parametrize("same", [same_bits, same_predictions])


class InBatch(FakeRunner):
    """Gives example 0 another first logit where it runs without company."""

    def __init__(self, alone: float) -> None:
        super().__init__(LOGITS)
        self._alone = alone

    def run(self, feeds: Feeds) -> Outputs:
        outputs = super().run(feeds)
        if len(feeds["input_ids"]) == 1:
            outputs["logits"][0, 0] = self._alone
        return outputs


def _again(
    runner: FakeRunner, same: Same, rows: list[int], order: tuple[int, ...] | None = None
) -> Float32Array:
    reported = rung(LOGITS if order is None else LOGITS[:, list(order)])
    again = Rows(numbered(4).batch(np.array([0, 1, 2])), rows)
    return again.run_again(runner.run, reported, order, same=same)["logits"]


@BOTH
def test_rows_alone_suffice_where_they_repeat_what_was_reported(same: Same) -> None:
    runner = InBatch(0.25)
    np.testing.assert_array_equal(_again(runner, same, [0]), LOGITS[[0]])
    assert runner.batches == [(1, 8)]  # as wide as the batch was


@pytest.mark.parametrize(
    ("same", "alone"),
    [(same_bits, NEXT), (same_predictions, -1.0), (same_predictions, np.nan)],
    ids=["a bit", "a prediction", "no number"],
)
def test_the_batch_runs_where_rows_alone_give_something_else(same: Same, alone: float) -> None:
    runner = InBatch(alone)
    np.testing.assert_array_equal(_again(runner, same, [0]), LOGITS[[0]])
    assert runner.batches == [(1, 8), (3, 8)]


def test_a_bit_is_not_a_prediction() -> None:
    runner = InBatch(NEXT)
    np.testing.assert_array_equal(_again(runner, same_predictions, [0]), [[NEXT, -0.5]])
    assert runner.batches == [(1, 8)]


@BOTH
def test_a_whole_batch_runs_once(same: Same) -> None:
    runner = FakeRunner(-LOGITS)  # nothing like what was reported
    np.testing.assert_array_equal(_again(runner, same, [0, 1, 2]), -LOGITS[:3])
    assert runner.batches == [(3, 8)]


@BOTH
def test_reported_logits_have_the_order_of_the_tasks_labels(same: Same) -> None:
    runner = FakeRunner(LOGITS)
    np.testing.assert_array_equal(_again(runner, same, [2, 1], (1, 0)), LOGITS[[2, 1]])
    assert runner.batches == [(2, 8)]
