"""Encoded examples in, each process's share of every global batch out.

The batch size of a recipe is global: every process draws the same batches, pads them to the same
length and takes its own contiguous part, so that the number of processes and of micro-batches
changes the order of summation and nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import DataError

__all__ = ["MicroBatch", "Share", "check_examples", "epoch_batches", "micro_batches"]

Indices = NDArray[np.int64]

POOL = 50  # batches: enough examples to find neighbours of equal length, few enough to stay random


@dataclass(frozen=True)
class Share:
    """Which part of every global batch one process computes, and in how many steps."""

    rank: int = 0
    processes: int = 1
    accumulation: int = 1


@dataclass(frozen=True)
class MicroBatch:
    """Padded inputs (batch, sequence) and labels (batch,) on the CPU.

    `weight` is what one example counts in the mean over the global batch: 1 / its size, or 0 for
    the stand-in of a process that the batch has no example for.
    """

    feeds: dict[str, Tensor]
    labels: Tensor
    weight: float

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on `device`."""
        feeds = {name: tensor.to(device) for name, tensor in self.feeds.items()}
        return MicroBatch(feeds, self.labels.to(device), self.weight)


def check_examples(data: EncodedDataset) -> None:
    """Raise DataError for data without a single example."""
    if not len(data):
        raise DataError(
            f"training data {data.dataset.source}",
            expected="at least one example",
            found="none",
            remedy="choose another task, split or limit",
        )


def epoch_batches(data: EncodedDataset, batch_size: int, *, seed: int, epoch: int) -> list[Indices]:
    """The global batches of one epoch, a function of the data, `seed` and `epoch` alone.

    Examples are shuffled, sorted by length within pools of 50 batches, cut, and the batches
    shuffled again: a batch then pads little, and short and long ones alternate.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(data))
    lengths = data.lengths
    batches: list[Indices] = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def micro_batches(data: EncodedDataset, batch: Indices, share: Share) -> Iterator[MicroBatch]:
    """The micro-batches of one process, none of them empty and at least one.

    A process without an example gets one that weighs nothing: its gradients, all zero, are what
    the others wait for.
    """
    longest = int(data.lengths[batch].max())
    own = np.array_split(batch, share.processes)[share.rank]
    parts = [part for part in np.array_split(own, share.accumulation) if len(part)]
    for part in parts or [batch[:1]]:
        arrays = data.padded(part, pad_to=longest)
        feeds = {name: torch.from_numpy(array) for name, array in arrays.items()}
        yield MicroBatch(feeds, _labels(data, part), 1 / len(batch) if parts else 0.0)


def _labels(data: EncodedDataset, indices: Indices) -> Tensor:
    labels = torch.from_numpy(data.dataset.labels[indices])
    # scores are float64, and the squared error must have the type of the logits
    return labels.float() if labels.is_floating_point() else labels
