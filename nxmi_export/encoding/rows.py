"""The unpadded ids of every example, end to end in one array per input of the model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TokenRows"]

Row = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class TokenRows(Sequence[Row]):
    """Per example and input name the ids, held flat: an array for each would take ten times more.

    Raises ValueError for arrays that do not fit each other.
    """

    ids: Mapping[str, NDArray[np.int32]]  # (tokens of all examples,)
    starts: NDArray[np.int64]  # (examples + 1,) into `ids`

    def __post_init__(self) -> None:
        steps = np.diff(self.starts)
        ends = {len(array) for array in self.ids.values()} or {0}
        if not len(self.starts) or self.starts[0] != 0 or (steps < 0).any():
            raise ValueError(f"rows of tokens do not start at 0 and go on: {self.starts}")
        if ends != {int(self.starts[-1])}:
            raise ValueError(f"rows of tokens end at {self.starts[-1]}, their ids at {ends}")
        self.starts.setflags(write=False)
        for array in self.ids.values():
            array.setflags(write=False)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, ArrayLike]], names: Sequence[str]) -> "TokenRows":
        """One after the other; `names` are the inputs that every row has."""
        chunks: dict[str, list[NDArray[np.int32]]] = {name: [] for name in names}
        lengths = [0]
        for row in rows:
            for name, found in chunks.items():
                found.append(np.asarray(row[name], np.int32))
            lengths.append(len(chunks[names[0]][-1]))
        return cls(
            {name: _joined(found) for name, found in chunks.items()},
            np.cumsum(lengths, dtype=np.int64),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per example."""
        return np.diff(self.starts)

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> "TokenRows":
        """The rows at these positions, in this order."""
        places = np.asarray(indices, np.int64)
        lengths = self.lengths[places]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Of every token kept its place in `ids`: the start of its row, and how far it is from that.
        kept = np.repeat(self.starts[places] - starts[:-1], lengths) + np.arange(starts[-1])
        return TokenRows({name: array[kept] for name, array in self.ids.items()}, starts)

    def content(self, index: int) -> bytes:
        """What the row is made of; equal for equal rows and ordered as their ids are."""
        own = slice(self.starts[index], self.starts[index + 1])
        return b"".join(array[own].astype(">i4").tobytes() for array in self.ids.values())

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "TokenRows": ...
    def __getitem__(self, index: int | slice) -> "Row | TokenRows":
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        place = range(len(self))[index]
        own = slice(self.starts[place], self.starts[place + 1])
        return {name: array[own].astype(np.int64) for name, array in self.ids.items()}


def _joined(arrays: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
