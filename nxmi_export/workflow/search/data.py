"""A task and a model's head in, what to score on and what to calibrate on out."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.encoding import EncodedDataset
from nxmi_export.glue import Dataset
from nxmi_export.workflow.compress.data import SHARE_SEED, TaskData
from nxmi_export.workflow.compress.request import CompressRequest
from nxmi_export.workflow.search.request import SearchRequest

__all__ = ["SLICE_REMARK", "SearchData"]

SLICE_REMARK = (
    "metrics, the dense model's too, are on examples of the train set, on which it was most likely "
    "fine-tuned: they serve to rank, and say little of new texts"
)


@dataclass(frozen=True)
class SearchData:
    """Two parts of the train split without a common example."""

    slice: EncodedDataset  # labels in the task's order
    calibration: EncodedDataset  # labels are not read
    order: tuple[int, ...]  # for each label of the task the model's output

    @classmethod
    def load(cls, request: SearchRequest, checkpoint: CompressedCheckpoint) -> "SearchData":
        """Read and tokenize; raises UsageError for a head that does not fit, DataError for data."""
        data = TaskData.load(_as_compression(request), checkpoint)
        (held,) = data.reported
        if request.slice_limit is not None and len(held) > request.slice_limit:
            drawn = np.random.default_rng(SHARE_SEED).permutation(len(held))
            held = held.select(np.sort(drawn[: request.slice_limit]))
        held = replace(held, dataset=replace(held.dataset, split="slice"))
        return cls(held, data.train, data.order)

    def as_json(self) -> dict[str, Any]:
        """Which examples, by the hash of the file that they came from."""
        return {
            "slice": _digest(self.slice.dataset),
            "calibration": _digest(self.calibration.dataset),
        }


def _as_compression(request: SearchRequest) -> CompressRequest:
    """The run that would hold the same slice out, so that it may be chosen on."""
    return CompressRequest(
        model=request.model,
        task=request.task,
        output=request.output,
        recipe=request.recipe,
        data_dir=request.data_dir,
        base=request.base,
        max_length=request.max_length,
        evaluate_on="holdout",
        holdout=request.holdout,
    )


def _digest(dataset: Dataset) -> dict[str, Any]:
    return {
        "split": dataset.split,
        "examples": len(dataset),
        "source": dataset.source,
        "sha256": dataset.sha256,
    }
