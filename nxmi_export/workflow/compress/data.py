"""A task and a model's head in, what to train on and what to report on out."""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.encoding import EncodedDataset, check_ids, encode, load_tokenizer
from nxmi_export.errors import DataError
from nxmi_export.glue import Dataset, load_dataset, predict, score
from nxmi_export.glue.tasks import TRAIN_SPLIT
from nxmi_export.model_facts import model_facts
from nxmi_export.parity.logits import logits_of
from nxmi_export.workflow.compress.request import CompressRequest
from nxmi_export.workflow.task_head import InTaskOrder, label_order

__all__ = ["TaskData"]

SHARE_SEED = 0  # the same share for every --seed, which then varies the training alone
EVALUATION_BATCH = 32  # examples


@dataclass(frozen=True)
class TaskData:
    """Tokenized examples; the labels of `train` are those of the model's own outputs."""

    train: EncodedDataset
    reported: tuple[EncodedDataset, ...]  # labels in the task's order; MNLI has two dev splits
    order: tuple[int, ...]  # for each label of the task the model's output

    @classmethod
    def load(cls, request: CompressRequest, checkpoint: CompressedCheckpoint) -> "TaskData":
        """Read and tokenize.

        Raises UsageError for a head that does not fit, DataError for data, CheckpointError for a
        tokenizer that does not fit the model.
        """
        facts = model_facts(checkpoint.config)
        order = label_order(request.model, facts.labels, request.task)
        train, reported = _splits(request)
        tokenizer = load_tokenizer(
            checkpoint.tokenizer, source=request.model, model_type=facts.model_type
        )
        length = min(request.max_length, facts.position_limit)

        def encoded(dataset: Dataset) -> EncodedDataset:
            data = encode(dataset, tokenizer, input_names=facts.input_names, max_length=length)
            check_ids(data, checkpoint.config, source=request.model)
            return data

        return cls(encoded(_relabelled(train, order)), tuple(map(encoded, reported)), order)

    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        """Every metric of the task by name, in float32; puts `model` into evaluation mode.

        Where there are several splits, each metric bears the name of its split. Their mean is the
        number that GLUE reports.
        """
        metrics: dict[str, float] = {}
        for data in self.reported:
            dataset = data.dataset
            runner = InTaskOrder(TorchRunner(model, tuple(data.padding)), self.order, "PyTorch")
            logits = logits_of(runner, data, data.cut(EVALUATION_BATCH))
            scores = score(dataset.task, predict(dataset.task, logits), dataset.labels)
            suffix = f" {dataset.split}" if len(self.reported) > 1 else ""
            metrics |= {f"{name}{suffix}": value for name, value in scores.items()}
        return metrics

    def as_json(self) -> dict[str, Any]:
        """Which examples, by the hash of the file that they came from."""
        return {
            "train": _digest(self.train.dataset),
            "reported": [_digest(data.dataset) for data in self.reported],
        }


def _splits(request: CompressRequest) -> tuple[Dataset, tuple[Dataset, ...]]:
    task, folder = request.task, request.data_dir
    train = load_dataset(task, TRAIN_SPLIT, folder)
    if request.evaluate_on == "dev":
        reported = tuple(load_dataset(task, split, folder) for split in task.dev_splits)
        return _limited(train, request.limit), reported
    held, rest = _holdout(train, request.holdout)
    return _limited(rest, request.limit), (held,)


def _holdout(train: Dataset, share: float) -> tuple[Dataset, Dataset]:
    count = ceil(share * len(train))
    if not 0 < count < len(train):
        raise DataError(
            f"{train.task.name} {train.split}",
            expected="a held-out share that leaves examples on both sides",
            found=f"{count} of {len(train)} examples",
            remedy="choose another --holdout",
        )
    order = _shuffled(len(train))
    held, rest = (train.select(np.sort(part)) for part in (order[:count], order[count:]))
    return replace(held, split="holdout"), rest


def _limited(train: Dataset, limit: int | None) -> Dataset:
    return train if limit is None else train.select(_shuffled(len(train))[:limit])


def _shuffled(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(SHARE_SEED).permutation(count)


def _relabelled(dataset: Dataset, order: tuple[int, ...]) -> Dataset:
    if dataset.task.is_regression:
        return dataset
    return replace(dataset, labels=np.asarray(order, np.int64)[dataset.labels])


def _digest(dataset: Dataset) -> dict[str, Any]:
    return {
        "split": dataset.split,
        "examples": len(dataset),
        "source": dataset.source,
        "sha256": dataset.sha256,
    }
