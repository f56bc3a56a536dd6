"""A runner and an encoded dataset in, one row of logits per example out, and what they decide."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends import Runner
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import DataError
from nxmi_export.glue import Task
from nxmi_export.glue.dataset import LabelArray

__all__ = [
    "Float32Array",
    "changed",
    "different_rows",
    "gap_within",
    "largest_gap",
    "logits_of",
    "margins",
    "median_gap",
    "non_finite_rows",
]

Float32Array = NDArray[np.float32]

# Of the score range. STS-B's labels are means of whole ratings, in steps of 0.2 on 0…5; a quarter
# of such a step decides nothing, while rounding noise alone moves a score by a thousandth.
REGRESSION_STEP = 0.01


def logits_of(
    runner: Runner,
    data: EncodedDataset,
    batches: Sequence[NDArray[np.int64]],
    *,
    pad_to: int | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Float32Array:
    """Logits (examples, outputs) in dataset order, whatever numbers they are.

    `batches` say which examples run together; one that is in none of them has NaN for its logits.
    `on_batch` gets the examples done and their total. Raises DataError for logits of another width
    than the task's.
    """
    # NaN, so that a row that no batch wrote is noticed.
    logits = np.full((len(data), data.dataset.task.num_outputs), np.nan, np.float32)
    done, total = 0, sum(map(len, batches))
    for indices in batches:
        batch = data.batch(indices, pad_to)
        rows = runner.run(batch.feeds)["logits"]
        expected = (len(batch.indices), logits.shape[1])
        if rows.shape != expected:
            raise DataError(
                f"{runner.name}: logits of {data.dataset.task.name}",
                expected=f"the shape {expected}",
                found=f"{rows.shape}",
                remedy="use a model that was trained for this task",
            )
        logits[batch.indices] = rows
        done += len(batch.indices)
        on_batch(done, total)
    return logits


def non_finite_rows(logits: Float32Array) -> NDArray[np.intp]:
    """The examples with a NaN or an infinity among their logits."""
    return np.flatnonzero(~np.isfinite(logits).all(axis=1))


def largest_gap(reference: Float32Array, candidate: Float32Array) -> float:
    """max |Δlogit|; not finite where one of the arrays is not."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is the answer
        gaps = np.abs(candidate.astype(np.float64) - reference)
    return float(gaps.max())


def median_gap(reference: Float32Array, candidate: Float32Array) -> float:
    """Of the examples' max |Δlogit|; not finite where one of the arrays is not."""
    return gap_within(reference, candidate, 0.5)


def gap_within(reference: Float32Array, candidate: Float32Array, share: float) -> float:
    """What that share of the examples' max |Δlogit| stays within; not finite as `median_gap`."""
    with np.errstate(invalid="ignore"):
        gaps = np.abs(candidate.astype(np.float64) - reference).max(axis=1)
    return float(np.quantile(gaps, share)) if np.isfinite(gaps).all() else math.nan


def different_rows(reference: Float32Array, candidate: Float32Array) -> NDArray[np.intp]:
    """The examples whose logits are not the same bits; -0 is not +0, and a NaN equals itself."""
    same = reference.view(np.uint32) == candidate.view(np.uint32)
    return np.flatnonzero(~same.all(axis=1))


def changed(task: Task, before: LabelArray, after: LabelArray) -> NDArray[np.bool_]:
    """True where a prediction is another class, or a score moved by over 1 % of the score range."""
    if not task.is_regression:
        return np.asarray(before != after)
    low, high = task.label_bounds
    return np.asarray(~(np.abs(after - before) <= REGRESSION_STEP * (high - low)))


def margins(logits: Float32Array) -> NDArray[np.float64]:
    """The highest logit minus the second, per row; NaN where there is only one (a regression)."""
    if logits.shape[1] == 1:
        return np.full(len(logits), np.nan)
    ordered = np.sort(logits.astype(np.float64), axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])
