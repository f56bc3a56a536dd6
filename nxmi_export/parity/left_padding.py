"""A runner and PyTorch in, whether they agree on examples whose padding is before their tokens out.

A mask that was read as a length hides the right tokens as long as the padding is behind them, and
others on the left. But there the tokens of models with absolute positions move as well, so that
what such an example gives is held against PyTorch over the same feeds, and not against itself.
"""

from collections.abc import Sequence

import numpy as np

from nxmi_export.backends import Runner
from nxmi_export.encoding import Batch, EncodedDataset
from nxmi_export.glue import predict
from nxmi_export.parity.logits import changed, largest_gap, median_gap, non_finite_rows
from nxmi_export.parity.shapes import ShapeSetting

__all__ = ["few_lengths", "left_padding", "mixed_lengths", "to_the_left"]

EXAMPLES = 4  # to be replayed, in one batch; more of them show the same mask


def left_padding(
    runner: Runner, reference: Runner, data: EncodedDataset, batches: Sequence[Batch]
) -> ShapeSetting:
    """Compare both over `batches` of `data`, their padding moved to the left (`to_the_left`).

    Both give logits in the task's order.
    """
    logits = np.full((len(data), data.dataset.task.num_outputs), np.nan, np.float32)
    expected = logits.copy()
    for batch in map(to_the_left, batches):
        logits[batch.indices] = runner.run(batch.feeds)["logits"]
        expected[batch.indices] = reference.run(batch.feeds)["logits"]
    ran = np.sort(np.concatenate([batch.indices for batch in batches]))
    before, after, task = expected[ran], logits[ran], data.dataset.task
    if len(non_finite_rows(before)) or len(non_finite_rows(after)):
        moved = ran
    else:
        moved = ran[np.flatnonzero(changed(task, predict(task, before), predict(task, after)))]
    return ShapeSetting(
        batch_size=max(len(batch.indices) for batch in batches),
        pad_to=None,
        changed=len(moved),
        largest_logit_gap=largest_gap(before, after),
        changed_examples=tuple(moved.tolist()),
        left=True,
        median_logit_gap=median_gap(before, after),
        logits=logits,
    )


def to_the_left(batch: Batch) -> Batch:
    """The same examples, their padding before their tokens and no longer behind them."""
    mask = batch.feeds["attention_mask"]
    shifts = mask.shape[1] - mask.sum(axis=1)
    feeds = {
        name: np.stack([np.roll(row, shift) for row, shift in zip(ids, shifts, strict=True)])
        for name, ids in batch.feeds.items()
    }
    return Batch(batch.indices, feeds)


def few_lengths(data: EncodedDataset) -> Batch:
    """Examples from the shortest to the longest, padded to the latter."""
    order = data.by_length()
    places = np.unique(np.linspace(0, len(order) - 1, EXAMPLES).astype(np.int64))
    return data.batch(order[places])


def mixed_lengths(data: EncodedDataset, size: int) -> list[Batch]:
    """All examples, at most `size` in a batch, each batch from short to long: most are padded."""
    count = -(-len(data) // size)
    return [data.batch(data.by_length()[start::count]) for start in range(count)]
