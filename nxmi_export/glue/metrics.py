"""Logits to predictions, and predictions with labels to GLUE's scores.

Each metric takes two arrays of one length, (rows,), and gives a float; what it gives for inputs
that its formula does not cover is part of its promise here.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nxmi_export.errors import DataError
from nxmi_export.glue.dataset import LabelArray
from nxmi_export.glue.tasks import Metric, Task

__all__ = ["accuracy", "f1", "matthews", "pearson", "predict", "primary", "score", "spearman"]

POSITIVE = 1  # the class whose F1 GLUE reports: equivalent (MRPC), duplicate (QQP)


def predict(task: Task, logits: NDArray[np.floating[Any]]) -> LabelArray:
    """The class of the highest logit, the lowest index on a tie; or the regression's number.

    `logits` are (rows, task.num_outputs), for a regression also (rows,). Raises DataError for
    another shape and for NaN or infinity, whose largest value would pass for an answer.
    """
    regression_column = task.is_regression and logits.ndim == 1
    rows = logits[:, np.newaxis] if regression_column else logits
    if rows.ndim != 2 or rows.shape[1] != task.num_outputs:
        raise DataError(
            f"logits of {task.name}",
            expected=f"the shape (rows, {task.num_outputs})",
            found=f"{logits.shape}",
            remedy="use a model that was trained for this task",
        )
    _check_finite(f"logits of {task.name}", rows)
    if task.is_regression:
        return np.asarray(rows[:, 0], dtype=np.float64)
    return np.asarray(np.argmax(rows, axis=1), dtype=np.int64)


def score(task: Task, predictions: LabelArray, labels: LabelArray) -> dict[str, float]:
    """Every metric of the task by name; all in 0...1, correlations in -1...1 or NaN.

    Raises DataError for different lengths, no rows, and predictions that are not finite.
    """
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise DataError(
            f"predictions of {task.name}",
            expected=f"one per label and at least one, shape {labels.shape}",
            found=f"shape {predictions.shape}",
            remedy="score predictions of the same rows, all of them",
        )
    _check_finite(f"predictions of {task.name}", predictions)
    return {metric: _FORMULAS[metric](predictions, labels) for metric in task.metrics}


def primary(task: Task, scores: Mapping[str, float]) -> float:
    """The one number GLUE reports: the mean of the task's metrics (MRPC, QQP and STS-B have two).

    NaN where a correlation is. MNLI's mean over its two dev splits is the caller's to take.
    """
    return statistics.fmean(scores[metric] for metric in task.metrics)


def accuracy(predictions: LabelArray, labels: LabelArray) -> float:
    """The share of equal values."""
    return float(np.mean(predictions == labels))


def f1(predictions: LabelArray, labels: LabelArray) -> float:
    """2 TP / (2 TP + FP + FN) of class 1; 0 where neither array has that class."""
    true_positives, _, false_positives, false_negatives = _confusion(predictions, labels)
    relevant = 2 * true_positives + false_positives + false_negatives
    return 2 * true_positives / relevant if relevant else 0.0


def matthews(predictions: LabelArray, labels: LabelArray) -> float:
    """Matthews' correlation of two classes (Matthews, 1975); 0 where either array is constant."""
    true_positives, true_negatives, false_positives, false_negatives = _confusion(
        predictions, labels
    )
    # Python integers: the product of four counts of 400 000 rows overflows 64 bits.
    margins = (
        (true_positives + false_positives)
        * (true_positives + false_negatives)
        * (true_negatives + false_positives)
        * (true_negatives + false_negatives)
    )
    if not margins:
        return 0.0
    determinant = true_positives * true_negatives - false_positives * false_negatives
    return determinant / math.sqrt(margins)


def pearson(predictions: LabelArray, labels: LabelArray) -> float:
    """Pearson's correlation; NaN where either array is constant, one row included."""
    if _is_constant(predictions) or _is_constant(labels):
        return math.nan
    product = float(np.dot(_unit(predictions), _unit(labels)))
    return min(1.0, max(-1.0, product))  # rounding may exceed 1 by an ulp


def spearman(predictions: LabelArray, labels: LabelArray) -> float:
    """Pearson's correlation of the ranks, equal values sharing their mean rank; NaN likewise."""
    return pearson(_ranks(predictions), _ranks(labels))


_FORMULAS: Mapping[Metric, Callable[[LabelArray, LabelArray], float]] = MappingProxyType(
    {"accuracy": accuracy, "f1": f1, "matthews": matthews, "pearson": pearson, "spearman": spearman}
)


def _check_finite(subject: str, values: NDArray[Any]) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        position = np.argwhere(~finite)[0]
        raise DataError(
            f"{subject}, row {position[0]}",
            expected="finite numbers",
            found=f"{values[tuple(position)]}",
            remedy="a model that gives these has no score; find where they arise",
        )


def _confusion(predictions: LabelArray, labels: LabelArray) -> tuple[int, int, int, int]:
    """True positives, true negatives, false positives, false negatives of class 1."""
    guessed, actual = predictions == POSITIVE, labels == POSITIVE
    return (
        int(np.count_nonzero(guessed & actual)),
        int(np.count_nonzero(~guessed & ~actual)),
        int(np.count_nonzero(guessed & ~actual)),
        int(np.count_nonzero(~guessed & actual)),
    )


def _is_constant(values: LabelArray) -> bool:
    # Compared, not by a zero variance: the mean of equal floats need not equal them.
    return bool(np.all(values == values[0]))


def _unit(values: LabelArray) -> NDArray[np.float64]:
    """The deviations from the mean as a vector of length 1."""
    # Scaled first, so that neither the sum nor the squares over- or underflow.
    scaled = values / np.abs(values).max()
    deviations = scaled - scaled.mean()
    return np.asarray(deviations / np.linalg.norm(deviations))


def _ranks(values: LabelArray) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of the ranks they take up."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(sizes)
    return (last_ranks - (sizes - 1) / 2)[group]
