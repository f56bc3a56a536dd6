"""Many weightings of the same cells in, the primary score of each out, without a Python loop.

The same metrics as `glue.metrics`, which a test holds them to: a cell of weight 3 counts as three
equal examples.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from nxmi_export.glue import Task
from nxmi_export.glue.dataset import LabelArray
from nxmi_export.glue.metrics import POSITIVE
from nxmi_export.glue.tasks import Metric
from nxmi_export.parity.statistics.pairs import Cells

__all__ = ["weighted_differences", "weighted_primary"]

FloatArray = NDArray[np.float64]


def weighted_differences(task: Task, cells: Cells, weights: FloatArray) -> FloatArray:
    """Candidate − reference of the primary score, (draws,), for weights (draws, cells) ≥ 0."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    after = weighted_primary(task, cells.candidate, cells.labels, weights)
    return after - weighted_primary(task, cells.reference, cells.labels, weights)


def weighted_primary(
    task: Task, predictions: LabelArray, labels: LabelArray, weights: FloatArray
) -> FloatArray:
    """The mean of the task's metrics, (draws,); each row of `weights` (draws, cells) sums to 1.

    NaN where the weighted predictions or labels of a correlation are constant.
    """
    scores = [_FORMULAS[metric](predictions, labels, weights) for metric in task.metrics]
    return np.asarray(np.mean(scores, axis=0))


def _accuracy(predictions: LabelArray, labels: LabelArray, weights: FloatArray) -> FloatArray:
    return np.asarray(weights @ (predictions == labels))


def _f1(predictions: LabelArray, labels: LabelArray, weights: FloatArray) -> FloatArray:
    hits, guessed, actual = _positives(predictions, labels, weights)
    return _ratio(2 * hits, guessed + actual)


def _matthews(predictions: LabelArray, labels: LabelArray, weights: FloatArray) -> FloatArray:
    hits, guessed, actual = _positives(predictions, labels, weights)
    # Rounding may leave a share that is 1 on paper an ulp above it.
    rest = np.maximum((1 - guessed) * (1 - actual), 0)
    return _ratio(hits - guessed * actual, np.sqrt(guessed * actual * rest))


def _positives(
    predictions: LabelArray, labels: LabelArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The shares of class 1 in both, in the predictions and in the labels."""
    guessed, actual = predictions == POSITIVE, labels == POSITIVE
    shares = weights @ np.stack([guessed & actual, guessed, actual], axis=1).astype(np.float64)
    return shares[:, 0], shares[:, 1], shares[:, 2]


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """The quotient, and 0 over 0 is 0; below 1e-9 there is nothing but rounding."""
    safe = np.where(below > 1e-9, below, 1.0)
    return np.where(below > 1e-9, above / safe, 0.0)


def _pearson(predictions: LabelArray, labels: LabelArray, weights: FloatArray) -> FloatArray:
    return _correlation(_standard(predictions), _standard(labels), weights)


def _spearman(predictions: LabelArray, labels: LabelArray, weights: FloatArray) -> FloatArray:
    return _correlation(_ranks(predictions, weights), _ranks(labels, weights), weights)


def _standard(values: LabelArray) -> FloatArray:
    """Around 0 with deviation 1, so that the squares below cancel little."""
    centred = values - values.mean()
    scale = np.abs(centred).max()
    return np.asarray(centred / scale if scale else centred)


def _ranks(values: LabelArray, weights: FloatArray) -> FloatArray:
    """(draws, cells): the share of the weight below each value, plus half of that at it."""
    order = np.argsort(values, kind="stable")
    _, starts, group = np.unique(values[order], return_index=True, return_inverse=True)
    at = np.add.reduceat(weights[:, order], starts, axis=1)
    middles = np.cumsum(at, axis=1) - at / 2 - 0.5
    ranks = np.empty_like(weights)
    ranks[:, order] = middles[:, group]
    return ranks


def _correlation(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Pearson's, of values (cells,) or (draws, cells)."""
    x = x - _mean(x, weights)[:, np.newaxis]
    y = y - _mean(y, weights)[:, np.newaxis]
    scatter = np.sqrt(_mean(x * x, weights) * _mean(y * y, weights))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = _mean(x * y, weights) / np.where(scatter > 1e-14, scatter, 0.0)
    return np.where(scatter > 1e-14, np.clip(correlation, -1, 1), np.nan)


def _mean(values: FloatArray, weights: FloatArray) -> FloatArray:
    if values.ndim == 1:
        return np.asarray(weights @ values)
    return np.asarray(np.einsum("dc,dc->d", values, weights))


_FORMULAS: Mapping[Metric, Callable[[LabelArray, LabelArray, FloatArray], FloatArray]] = (
    MappingProxyType(
        {
            "accuracy": _accuracy,
            "f1": _f1,
            "matthews": _matthews,
            "pearson": _pearson,
            "spearman": _spearman,
        }
    )
)
