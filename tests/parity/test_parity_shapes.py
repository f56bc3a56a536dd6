"""Batch size and padding must not change predictions."""

import math

import numpy as np
import pytest
from parity_models import INPUTS, POSITIONS, Exported, FakeRunner, numbered

from nxmi_export.backends import Feeds, Outputs
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.encoding import Batch, EncodedDataset
from nxmi_export.errors import ShapeError, UsageError
from nxmi_export.parity import shape_parity
from nxmi_export.parity.left_padding import left_padding, mixed_lengths, to_the_left
from nxmi_export.parity.shapes import ShapeParity, ShapeSetting


class PaddingLeaks(FakeRunner):
    """Calls every example positive as soon as it carries padding."""

    def run(self, feeds: Feeds) -> Outputs:
        padded = (feeds["input_ids"][:, -1:] != feeds["input_ids"][:, :1]).astype(np.float32)
        return {"logits": np.concatenate([1 - padded, padded], axis=1)}


class BreaksWhenPadded(FakeRunner):
    def run(self, feeds: Feeds) -> Outputs:
        outputs = super().run(feeds)
        if feeds["input_ids"].shape[1] == 9:
            outputs["logits"] = np.full_like(outputs["logits"], np.nan)
        return outputs


def test_every_batch_size_and_length_is_compared_with_the_first(
    sparse: Exported, data: EncodedDataset
) -> None:
    runner = TorchRunner(sparse.model, INPUTS)
    parity = shape_parity(runner, data, batch_sizes=(1, 8, 32), pad_to=(24, POSITIONS))
    settings = [(setting.batch_size, setting.pad_to) for setting in parity.settings]
    assert settings == [(8, None), (32, None), (1, 24), (1, POSITIONS)]
    assert (parity.name, parity.examples) == ("pytorch", 40)
    assert all(setting.finite and setting.changed <= 1 for setting in parity.settings)


def test_padding_that_leaks_is_seen() -> None:
    runner = PaddingLeaks(np.zeros((4, 2)))
    parity = shape_parity(runner, numbered(4), batch_sizes=(1, 2), pad_to=(9,))
    # Token 0 is the padding, so that example 0 always looks unpadded.
    assert parity == ShapeParity(
        "fake",
        4,
        (
            ShapeSetting(2, None, 2, 1.0, (1, 3), furthest=1, median_logit_gap=0.5),
            ShapeSetting(1, 9, 3, 1.0, (1, 2, 3), furthest=1, median_logit_gap=1.0),
        ),
    )


def test_a_shape_that_gives_no_numbers_counts_as_all_changed() -> None:
    runner = BreaksWhenPadded(np.zeros((4, 2)))
    (setting,) = shape_parity(runner, numbered(4), batch_sizes=(2,), pad_to=(9,)).settings
    assert (setting.changed, setting.finite) == (4, False)
    assert math.isnan(setting.largest_logit_gap)


def test_progress_counts_settings() -> None:
    seen: list[tuple[int, int]] = []
    shape_parity(
        FakeRunner(np.zeros((4, 2))),
        numbered(4),
        batch_sizes=(1, 2),
        pad_to=(9,),
        on_setting=lambda *each: seen.append(each),
    )
    assert seen == [(1, 2), (2, 2)]


def test_no_batch_size_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        shape_parity(FakeRunner(np.zeros((4, 2))), numbered(4), batch_sizes=(), pad_to=(9,))
    assert str(error.value) == "shape parity: expected a batch size, found none; give at least one"


def test_a_length_below_the_longest_example_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least the 5 tokens of the longest example"):
        shape_parity(FakeRunner(np.zeros((4, 2))), numbered(4), batch_sizes=(1,), pad_to=(3,))


class ReadsLength(FakeRunner):
    """Sums the ids that it sees, and takes all padding to be behind them."""

    def run(self, feeds: Feeds) -> Outputs:
        mask = feeds["attention_mask"]
        seen = np.arange(mask.shape[1]) < mask.sum(axis=1, keepdims=True)
        return {"logits": _sums(feeds["input_ids"] * seen)}


class ReadsMask(FakeRunner):
    def run(self, feeds: Feeds) -> Outputs:
        return {"logits": _sums(feeds["input_ids"] * feeds["attention_mask"])}


def _sums(ids: np.ndarray) -> np.ndarray:
    total = ids.sum(axis=1).astype(np.float32)
    return np.stack([total, np.full_like(total, 5)], axis=1)


def test_padding_goes_before_the_tokens() -> None:
    ids, mask = np.array([[7, 8, 9], [5, 0, 0]]), np.array([[1, 1, 1], [1, 0, 0]])
    found = to_the_left(Batch(np.arange(2), {"input_ids": ids, "attention_mask": mask})).feeds
    assert found["input_ids"].tolist() == [[7, 8, 9], [0, 0, 5]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_mask_read_as_a_length_shows_on_the_left_alone(data: EncodedDataset) -> None:
    wrong, right = ReadsLength(()), ReadsMask(())
    parity = shape_parity(wrong, data, batch_sizes=(8, 1), pad_to=(POSITIONS,))
    assert all(setting.largest_logit_gap == 0 for setting in parity.settings)
    batches = mixed_lengths(data, 8)
    assert sorted(int(i) for batch in batches for i in batch.indices) == list(range(40))
    found = left_padding(wrong, right, data, batches)
    assert found.left
    assert found.largest_logit_gap > 5
    assert found.median_logit_gap is not None
    assert found.median_logit_gap > 0
    honest = left_padding(right, right, data, batches)
    assert (honest.changed, honest.largest_logit_gap) == (0, 0.0)
