"""A tokenized dataset in, its batches out: by number of examples, or by number of tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nxmi_export.encoding.rows import TokenRows
from nxmi_export.errors import ShapeError
from nxmi_export.glue import Dataset

__all__ = ["Batch", "EncodedDataset", "Feeds"]

Feeds = dict[str, NDArray[np.int64]]
Indices = NDArray[np.int64]


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

    def cut(self, size: int, order: Indices | None = None) -> list[Indices]:
        """The examples in the given order (default: by length), `size` at a time."""
        order = self.by_length() if order is None else order
        return [order[start : start + size] for start in range(0, len(order), size)]

    def bucketed(self, tokens: int) -> list[Indices]:
        """The examples by length, in batches of at most `tokens` tokens, padding included.

        Long examples come in small batches and short ones in large, so that a batch takes about
        the same time and memory whatever its length. The longest come first: what memory a run
        needs shows at once. An example of more than `tokens` tokens has a batch of its own.
        """
        order, batches, start = self.by_length()[::-1], [], 0
        while start < len(order):
            count = max(1, tokens // max(1, int(self.lengths[order[start]])))
            batches.append(order[start : start + count])
            start += count
        return batches

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
        starts, lengths = self.rows.starts, self.lengths
        longest = max(int(lengths[index]) for index in indices)
        if pad_to is not None and pad_to < longest:
            raise ShapeError(
                "padding",
                expected=f"at least the {longest} tokens of the longest example",
                found=f"{pad_to}",
                remedy="pad to a larger length",
            )
        shape = (len(indices), pad_to or longest)
        feeds = {name: np.full(shape, fill, np.int64) for name, fill in self.padding.items()}
        for row, index in enumerate(indices):
            start, length = starts[index], lengths[index]
            for name, array in feeds.items():
                array[row, :length] = self.rows.ids[name][start : start + length]
        return feeds
