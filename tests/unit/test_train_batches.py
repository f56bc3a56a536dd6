import numpy as np
import pytest
import torch
from torch import Tensor

from nxmi_export.compression.training.batches import (
    Share,
    check_examples,
    epoch_batches,
    micro_batches,
)
from nxmi_export.errors import DataError
from nxmi_export.glue import task_named
from tests.tiny_models import toy_data


def _batches(*, seed: int = 0, epoch: int = 1) -> list[list[int]]:
    return [b.tolist() for b in epoch_batches(toy_data(50), 8, seed=seed, epoch=epoch)]


def test_an_epoch_holds_every_example_once() -> None:
    batches = _batches()
    assert sorted(index for batch in batches for index in batch) == list(range(50))
    assert sorted(map(len, batches)) == [2, 8, 8, 8, 8, 8, 8]


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    assert _batches() == _batches()
    assert _batches() != _batches(epoch=2)
    assert _batches() != _batches(seed=1)


def test_a_batch_holds_examples_of_similar_length() -> None:
    data = toy_data(200)
    spreads = [np.ptp(data.lengths[b]) for b in epoch_batches(data, 8, seed=0, epoch=1)]
    assert np.mean(spreads) < 0.2 * np.ptp(data.lengths)


def test_lengths_are_counted_once_and_nobody_can_change_them() -> None:
    data = toy_data(8)
    assert data.lengths is data.lengths
    with pytest.raises(ValueError, match="read-only"):
        data.lengths[0] = 1
    assert data.select(np.array([3, 1])).lengths.tolist() == data.lengths[[3, 1]].tolist()


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("accumulation", [1, 2, 5])
def test_shares_make_up_the_global_batch(processes: int, accumulation: int) -> None:
    data = toy_data(7)
    batch = np.arange(7)
    parts = [
        part
        for rank in range(processes)
        for part in micro_batches(data, batch, Share(rank, processes, accumulation))
    ]
    whole = {name: torch.from_numpy(array) for name, array in data.padded(batch, None).items()}
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([part.feeds[name] for part in parts]), tensor)
    assert sum(len(part.labels) * part.weight for part in parts) == pytest.approx(1)


def test_a_process_without_an_example_gets_one_that_weighs_nothing() -> None:
    data = toy_data(4)
    alone = np.array([2])
    (part,) = micro_batches(data, alone, Share(rank=1, processes=2))
    assert part.weight == 0
    assert len(part.labels) == 1


@pytest.mark.parametrize(("task", "kind"), [("sst2", torch.int64), ("stsb", torch.float32)])
def test_labels_have_the_type_that_the_loss_needs(task: str, kind: torch.dtype) -> None:
    def labels() -> Tensor:
        data = toy_data(4, task=task_named(task))
        (part,) = micro_batches(data, np.arange(4), Share())
        return part.labels

    assert labels().dtype == kind


def test_data_without_examples_are_refused() -> None:
    with pytest.raises(DataError) as refusal:
        check_examples(toy_data(4).select(np.array([], np.int64)))
    assert str(refusal.value) == (
        "training data toy: expected at least one example, found none; "
        "choose another task, split or limit"
    )
