"""Labels and two models' predictions of the same examples, checked once, in."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.errors import DataError
from nxmi_export.glue import Task, primary, score
from nxmi_export.glue.dataset import LabelArray

__all__ = ["Cells", "Pairs"]

TWO_CLASS_METRICS = {"f1", "matthews"}


@dataclass(frozen=True, eq=False)
class Cells:
    """The different (label, reference, candidate) triples, each with its number of examples.

    No score depends on the order of the examples, so a resample is a new count for each triple:
    eight counts for QQP's 40 430 pairs.
    """

    labels: LabelArray  # (cells,)
    reference: LabelArray  # (cells,)
    candidate: LabelArray  # (cells,)
    counts: NDArray[np.int64]  # (cells,)


@dataclass(frozen=True, eq=False)
class Pairs:
    """One dev set, predicted twice; a difference is always candidate − reference.

    Raises DataError for arrays that are no predictions of the same examples, and for data whose
    primary metric is not defined.
    """

    task: Task
    labels: LabelArray  # (examples,)
    reference: LabelArray  # (examples,)
    candidate: LabelArray  # (examples,)

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or not len(self.labels):
            raise DataError(
                f"labels of {self.task.name}",
                expected="the shape (examples,) with at least one",
                found=f"{self.labels.shape}",
                remedy="compare over a whole dev set",
            )
        _check_values(f"labels of {self.task.name}", self.task, self.labels)
        for whose, predictions in (("reference", self.reference), ("candidate", self.candidate)):
            subject = f"the {whose}'s predictions of {self.task.name}"
            if predictions.shape != self.labels.shape:
                raise DataError(
                    subject,
                    expected=f"one per label, shape {self.labels.shape}",
                    found=f"shape {predictions.shape}",
                    remedy="pass predictions, not logits, of the same examples",
                )
            _check_values(subject, self.task, predictions)
        _check_defined(self)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def scores(self) -> tuple[float, float]:
        """The primary scores, the reference's first."""
        before, after = (
            primary(self.task, score(self.task, predictions, self.labels))
            for predictions in (self.reference, self.candidate)
        )
        return before, after

    @property
    def difference(self) -> float:
        """The candidate's primary score minus the reference's."""
        before, after = self.scores
        return after - before

    @property
    def changed(self) -> int:
        """The predictions that are not equal, however close."""
        return int(np.count_nonzero(self.reference != self.candidate))

    @cached_property
    def gains(self) -> int:
        """The examples that only the candidate has right."""
        wrong_before = self.reference != self.labels
        return int(np.count_nonzero(wrong_before & (self.candidate == self.labels)))

    @cached_property
    def losses(self) -> int:
        """The examples that only the reference has right."""
        wrong_after = self.candidate != self.labels
        return int(np.count_nonzero((self.reference == self.labels) & wrong_after))

    @cached_property
    def cells(self) -> Cells:
        """The examples, equal ones counted together."""
        columns = np.stack([self.labels, self.reference, self.candidate])
        (labels, reference, candidate), counts = np.unique(columns, axis=1, return_counts=True)
        return Cells(labels, reference, candidate, counts.astype(np.int64))


def _check_values(subject: str, task: Task, values: NDArray[Any]) -> None:
    if task.is_regression:
        wrong, expected = ~np.isfinite(values), "finite numbers"
    else:
        classes = len(task.labels)
        wrong, expected = ~np.isin(values, np.arange(classes)), f"classes 0…{classes - 1}"
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{subject}, row {row}",
            expected=expected,
            found=f"{values[row]}",
            remedy="such a model cannot be compared; find where the value arises",
        )


def _check_defined(pairs: Pairs) -> None:
    """Refuse data over which the metric is a convention or 0/0 instead of a measurement."""
    task = pairs.task
    if TWO_CLASS_METRICS & set(task.metrics) and len(np.unique(pairs.labels)) == 1:
        raise DataError(
            f"labels of {task.name}",
            expected=f"examples of both classes, without which there is no {task.metrics[-1]}",
            found=f"only class {pairs.labels[0]}",
            remedy="compare over the whole dev set",
        )
    if not task.is_regression:
        return
    whose = ("labels", "the reference's predictions", "the candidate's predictions")
    columns = (pairs.labels, pairs.reference, pairs.candidate)
    for name, values in zip(whose, columns, strict=True):
        if np.all(values == values[0]):
            raise DataError(
                f"{name} of {task.name}",
                expected="values that vary, without which there is no correlation",
                found=f"{values[0]} for all {len(values)} examples",
                remedy="a model that says the same of every example needs no statistics",
            )
