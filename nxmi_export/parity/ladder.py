"""Runners over one dataset in, one `RungResult` each out; two of those in, a `Comparison` out."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends import Runner
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import UsageError
from nxmi_export.glue import Dataset, predict, primary, score
from nxmi_export.glue.dataset import LabelArray
from nxmi_export.parity.logits import (
    Float32Array,
    changed,
    different_rows,
    largest_gap,
    logits_of,
    margins,
    non_finite_rows,
)

__all__ = [
    "Comparison",
    "PredictionChange",
    "RungResult",
    "Stage",
    "compare",
    "run_rung",
    "rung_of",
]


class Stage(StrEnum):
    """The rungs, from the trained model to what is deployed, in this order."""

    DENSE = "dense"  # PyTorch before compression
    COMPRESSED = "compressed"  # PyTorch with masks and fake quantizers
    CAPTURED = "captured"  # the graph before any pass, on onnxruntime, optimizations off
    WRITTEN = "written"  # model.onnx on onnxruntime, optimizations off
    SHIFTED = "shifted"  # model.cpu.onnx, its activations uint8, on onnxruntime as WRITTEN
    OPTIMIZED = "optimized"  # model.cpu.onnx on onnxruntime, optimizations on
    FLOAT16 = "float16"  # model.fp16.onnx, where there is one, on onnxruntime as WRITTEN
    INT4 = "int4"  # model.int4.onnx, where there is one, on onnxruntime as WRITTEN
    OPENVINO = "openvino"  # model.onnx on OpenVINO, where that was asked for
    ENGINE = "engine"  # model.plan on TensorRT


@dataclass(frozen=True, eq=False)
class RungResult:
    """What one runner made of every example, in dataset order.

    A model that gives NaN or infinity has no predictions, and NaN for every score.
    """

    name: str
    dataset: Dataset = field(repr=False)
    logits: Float32Array = field(repr=False)  # (examples, outputs)
    predictions: LabelArray | None = field(repr=False)
    scores: Mapping[str, float]  # by metric, in the task's order
    primary: float
    batch_tokens: int  # of a batch at most, padding included

    @property
    def non_finite(self) -> NDArray[np.intp]:
        """The examples whose logits are not all finite."""
        return non_finite_rows(self.logits)


@dataclass(frozen=True)
class PredictionChange:
    """One example that two rungs decide differently."""

    index: int  # into the dataset
    id: int  # GLUE's own number of the example
    texts: tuple[str, ...]
    label: float
    before: float
    after: float
    margin_before: float  # highest logit minus the second; NaN for a regression
    margin_after: float


@dataclass(frozen=True)
class Comparison:
    """How a candidate rung differs from its reference; differences are candidate − reference.

    `largest_logit_gap` is not finite, and `changes` is empty, where a rung's logits are not finite.
    """

    reference: str
    candidate: str
    examples: int
    changes: tuple[PredictionChange, ...]
    largest_logit_gap: float
    different: tuple[int, ...]  # indices of the examples with any logit not equal bit for bit
    score_differences: Mapping[str, float]
    primary_difference: float

    @property
    def comparable(self) -> bool:
        """Whether both rungs have predictions."""
        return math.isfinite(self.largest_logit_gap)


def run_rung(
    runner: Runner,
    data: EncodedDataset,
    *,
    batch_tokens: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> RungResult:
    """Run every example; `on_batch` gets the examples done and their total.

    Raises DataError for logits that do not fit the task. Logits that are not finite are a result,
    which `verdict` refuses.
    """
    logits = logits_of(runner, data, data.bucketed(batch_tokens), on_batch=on_batch)
    return rung_of(runner.name, data.dataset, logits, batch_tokens)


def rung_of(name: str, dataset: Dataset, logits: Float32Array, batch_tokens: int) -> RungResult:
    """What the logits (examples, outputs) of a runner decide and score."""
    logits.setflags(write=False)
    if len(non_finite_rows(logits)):
        nothing = dict.fromkeys(map(str, dataset.task.metrics), math.nan)
        return RungResult(name, dataset, logits, None, nothing, math.nan, batch_tokens)
    predictions = predict(dataset.task, logits)
    scores = score(dataset.task, predictions, dataset.labels)
    overall = primary(dataset.task, scores)
    return RungResult(name, dataset, logits, predictions, scores, overall, batch_tokens)


def compare(reference: RungResult, candidate: RungResult) -> Comparison:
    """Compare two rungs over the same examples; UsageError where they ran different ones.

    A regression's prediction counts as changed where it moved by more than 1 % of the score range
    (0.05 of STS-B's 0…5), a quarter of the step between two gold labels.
    """
    if not _same_examples(reference.dataset, candidate.dataset):
        raise UsageError(
            f"comparing {candidate.name} with {reference.name}",
            expected="the same examples in the same order",
            found=f"{_describe(candidate.dataset)} and {_describe(reference.dataset)}",
            remedy="run both rungs over one dataset",
        )
    return Comparison(
        reference=reference.name,
        candidate=candidate.name,
        examples=len(reference.dataset),
        changes=tuple(
            _change(reference, candidate, index) for index in _changed(reference, candidate)
        ),
        largest_logit_gap=largest_gap(reference.logits, candidate.logits),
        different=tuple(different_rows(reference.logits, candidate.logits).tolist()),
        score_differences={
            metric: candidate.scores[metric] - reference.scores[metric]
            for metric in reference.scores
        },
        primary_difference=candidate.primary - reference.primary,
    )


def _changed(reference: RungResult, candidate: RungResult) -> list[int]:
    before, after = reference.predictions, candidate.predictions
    if before is None or after is None:
        return []
    return np.flatnonzero(changed(reference.dataset.task, before, after)).tolist()


def _change(reference: RungResult, candidate: RungResult, index: int) -> PredictionChange:
    dataset = reference.dataset
    assert reference.predictions is not None
    assert candidate.predictions is not None
    row = slice(index, index + 1)
    return PredictionChange(
        index=index,
        id=int(dataset.ids[index]),
        texts=tuple(column[index] for column in dataset.texts),
        label=dataset.labels[index].item(),
        before=reference.predictions[index].item(),
        after=candidate.predictions[index].item(),
        margin_before=margins(reference.logits[row]).item(),
        margin_after=margins(candidate.logits[row]).item(),
    )


def _same_examples(one: Dataset, other: Dataset) -> bool:
    return one is other or (
        (one.task, one.split, one.sha256) == (other.task, other.split, other.sha256)
        and np.array_equal(one.ids, other.ids)
    )


def _describe(dataset: Dataset) -> str:
    return f"{len(dataset)} of {dataset.task.name} {dataset.split}"
