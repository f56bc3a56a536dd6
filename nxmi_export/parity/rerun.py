"""A reported rung and one of its batches in, what some of the rows give when they run again out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from nxmi_export.backends import Feeds, Outputs
from nxmi_export.encoding import Batch
from nxmi_export.glue import Task, predict
from nxmi_export.parity.ladder import RungResult
from nxmi_export.parity.logits import Float32Array, changed, different_rows, non_finite_rows

__all__ = ["Rows", "same_bits", "same_predictions"]

Same: TypeAlias = Callable[[Task, Float32Array, Float32Array], bool]
"""Whether logits (rows, outputs) of another run, the second, are as good as those reported."""


def same_bits(task: Task, reported: Float32Array, again: Float32Array) -> bool:
    """Whether every logit is equal bit for bit, and so is all that led to it."""
    return not len(different_rows(reported, again))


def same_predictions(task: Task, reported: Float32Array, again: Float32Array) -> bool:
    """Whether all are finite and decide the same."""
    if len(non_finite_rows(reported)) or len(non_finite_rows(again)):
        return False
    return not changed(task, predict(task, reported), predict(task, again)).any()


@dataclass(frozen=True)
class Rows:
    """Some rows of a batch that is to run again, at the width it was padded to."""

    batch: Batch
    rows: list[int]

    @property
    def feeds(self) -> Feeds:
        """Of these rows alone."""
        return {name: ids[self.rows] for name, ids in self.batch.feeds.items()}

    @property
    def indices(self) -> list[int]:
        """Of the examples, into the dataset."""
        return [int(index) for index in self.batch.indices[self.rows]]

    def run_again(
        self,
        run: Callable[[Feeds], Outputs],
        rung: RungResult,
        label_order: tuple[int, ...] | None,
        *,
        same: Same,
    ) -> Outputs:
        """What `run` makes of these rows, as `rung` ran them.

        That is in their batch, because sums may depend on how many rows a kernel takes together.
        Where the rows alone give the `same` logits as were reported, the others need not run.
        """
        if len(self.rows) < len(self.batch.indices):
            alone = run(self.feeds)
            logits = alone["logits"]
            ordered = logits if label_order is None else logits[:, list(label_order)]
            reported = rung.logits[self.indices]
            if ordered.shape == reported.shape and same(rung.dataset.task, reported, ordered):
                return alone
        return {name: array[self.rows] for name, array in run(self.batch.feeds).items()}
