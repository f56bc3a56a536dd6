"""One labelled split in memory: texts, labels, and which file they came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nxmi_export.glue.tasks import Task

__all__ = ["Dataset", "LabelArray"]

LabelArray: TypeAlias = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of one split, in file order; every label is within the task's bounds.

    `source` is the path that was read (or the hub's name of the dataset) and `sha256` the hash of
    its bytes; where two files make up the split it is that of both, as `cat FILES | sha256sum`
    prints it. `omitted` counts from 0 the file's rows that were cut short and left out.
    """

    task: Task
    split: str
    texts: tuple[tuple[str, ...], ...] = field(repr=False)  # one tuple of rows per text column
    labels: LabelArray = field(repr=False)  # (rows,) int64 class indices, or float64 scores
    ids: NDArray[np.int64] = field(repr=False)  # (rows,) GLUE's idx, else the row number
    source: str
    sha256: str
    omitted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.labels.setflags(write=False)
        self.ids.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> "Dataset":
        """The rows at these positions, in this order; IndexError where there is none."""
        rows = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            texts=tuple(tuple(column[row] for row in rows) for column in self.texts),
            labels=self.labels[rows],
            ids=self.ids[rows],
        )

    def head(self, count: int) -> "Dataset":
        """The first `count` rows, or all of them where there are fewer."""
        return self.select(range(min(count, len(self))))
