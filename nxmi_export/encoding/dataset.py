"""A tokenized dataset in, its batches out: by number of examples, or by number of tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nxmi_export.encoding.batches import Feeds, Indices, bucketed, padded
from nxmi_export.encoding.rows import TokenRows
from nxmi_export.glue import Dataset

__all__ = ["Batch", "EncodedDataset", "Feeds"]


@dataclass(frozen=True)
class Batch:
    """Padded model inputs, each int64 (batch, sequence), and which examples they are."""

    indices: Indices  # (batch,) into the dataset
    feeds: Feeds


@dataclass(frozen=True)
class EncodedDataset:
    """A tokenized dataset; per example and input name the unpadded ids."""

    dataset: Dataset
    rows: TokenRows
    padding: Mapping[str, int]  # the fill value of each input

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per example; read-only, as all callers get the same array."""
        lengths = self.rows.lengths
        lengths.flags.writeable = False
        return lengths

    def select(self, indices: Indices) -> "EncodedDataset":
        """The examples at these positions, in this order."""
        return replace(self, dataset=self.dataset.select(indices), rows=self.rows.select(indices))

    def by_length(self) -> Indices:
        """Example indices from shortest to longest, so that batches pad little."""
        return np.argsort(self.lengths, kind="stable")

    def spread(self, count: int) -> Indices:
        """`count` examples evenly over all lengths, or all if there are fewer, by length.

        Of equally long ones their tokens decide, and not their places in the data.
        """
        order = self.by_length()
        lengths = self.lengths[order]
        at = np.linspace(0, len(self) - 1, min(len(self), count)).astype(np.int64)
        chosen: list[int] = []
        for length in np.unique(lengths[at]):
            # One length at a time, so that few examples' tokens are held at once.
            first, end = np.searchsorted(lengths, [length, length + 1])
            same = sorted(order[first:end].tolist(), key=self.rows.content)
            chosen += [same[place - first] for place in at[(first <= at) & (at < end)]]
        return np.asarray(chosen, np.int64)

    def cut(self, size: int, order: Indices | None = None) -> list[Indices]:
        """The examples in the given order (default: by length), `size` at a time."""
        order = self.by_length() if order is None else order
        return [order[start : start + size] for start in range(0, len(order), size)]

    def bucketed(self, tokens: int) -> list[Indices]:
        """The examples by length, in batches of at most `tokens` tokens, as `bucketed` has them."""
        return bucketed(self.lengths, tokens)

    def batch(self, indices: Indices, pad_to: int | None = None) -> Batch:
        """These examples, padded on the right to the longest of them, or to `pad_to` tokens."""
        return Batch(indices, self.padded(indices, pad_to))

    def batches(
        self, size: int, *, order: Indices | None = None, pad_to: int | None = None
    ) -> Iterator[Batch]:
        """Batches of `size` in the given order (default: by length)."""
        for indices in self.cut(size, order):
            yield self.batch(indices, pad_to)

    def padded(self, indices: Sequence[int] | Indices, pad_to: int | None) -> Feeds:
        """The inputs of the examples `indices`, padded to one length."""
        return padded(self.rows, indices, self.padding, pad_to)
