"""Refuses label values a task does not have, whichever file they were read from."""

import numpy as np
from numpy.typing import NDArray

from nxmi_export.errors import InvalidDataset
from nxmi_export.glue.dataset import LabelArray
from nxmi_export.glue.tasks import Task

__all__ = ["UNLABELLED", "allowed_labels", "check_labels", "same_label"]

_SEPARATORS = str.maketrans("- ", "__")
UNLABELLED = -1  # what the hub writes in place of the labels GLUE keeps to itself


def check_labels(task: Task, labels: LabelArray, rows: NDArray[np.int64], source: str) -> None:
    """Raise InvalidDataset at the first label outside the task's bounds.

    `rows` holds each label's row number in `source`, counted from 0.
    """
    low, high = task.label_bounds
    # Negated as a whole, because NaN compares false with everything.
    outside = ~((labels >= low) & (labels <= high))
    if not outside.any():
        return
    first = int(np.argmax(outside))
    value = labels[first]
    raise InvalidDataset(
        f"{source}, row {rows[first]}",
        expected=allowed_labels(task),
        found=f"{value:g}",
        remedy="test splits carry no labels, so use a train or validation split"
        if value == UNLABELLED
        else "correct the file (rows count from 0)",
    )


def same_label(name: str) -> str:
    """What two spellings of a class name have in common: "Not-entailment", "not_entailment"."""
    return name.strip().lower().translate(_SEPARATORS)


def allowed_labels(task: Task) -> str:
    """The task's labels in words, for an error: "a label among 0 (negative), 1 (positive)"."""
    if task.is_regression:
        low, high = task.label_bounds
        return f"a score from {low:g} to {high:g}"
    named = (f"{index} ({name})" for index, name in enumerate(task.labels))
    return f"a label among {', '.join(named)}"
