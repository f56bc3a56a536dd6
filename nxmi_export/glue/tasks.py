"""The nine GLUE tasks and the quickstart's own, as facts: columns, labels, splits, metrics, files.

Column names, label order and splits are those of the hub's dataset `nyu-mll/glue`; metrics are
those of the GLUE paper (Wang et al., 2019, table 1).
"""

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from nxmi_export.errors import UnknownTask

__all__ = ["LABEL_COLUMN", "TASKS", "TRAIN_SPLIT", "Metric", "Task", "TsvLayout", "task_named"]

Metric = Literal["accuracy", "f1", "matthews", "pearson", "spearman"]

LABEL_COLUMN = "label"
TRAIN_SPLIT = "train"


@dataclass(frozen=True)
class TsvLayout:
    """One task's folder of the classic `glue_data` tree and the columns of its TSV files."""

    folder: str
    text_columns: tuple[str, ...]
    label_column: str
    header: tuple[str, ...] | None = None  # the columns of a file that has no header line
    named_labels: bool = False  # labels written as names ("entailment"), not as digits
    omits_incomplete_rows: bool = False  # rows cut short are part of GLUE's own file


@dataclass(frozen=True)
class Task:
    """What is read, predicted and measured in one task.

    `labels` are the class names by index, empty for a regression, whose labels then lie within
    `score_range` (both ends included). `hub_config` is None where the hub has no such dataset,
    `described_in` but where a file describes the task (nxmi_export.task_file).
    """

    name: str
    text_columns: tuple[str, ...]  # one, or two for a pair of texts
    labels: tuple[str, ...]
    metrics: tuple[Metric, ...]
    tsv: TsvLayout
    hub_config: str | None
    dev_splits: tuple[str, ...] = ("validation",)
    score_range: tuple[float, float] | None = None
    described_in: Path | None = None

    @property
    def argument(self) -> str:
        """What asks for it on a command line."""
        return self.name if self.described_in is None else str(self.described_in)

    def argument_in(self, folder: Path) -> str:
        """The same for a command line in `folder`."""
        if self.described_in is None:
            return self.name
        return os.path.relpath(self.described_in, folder)

    @property
    def description(self) -> dict[str, Any] | None:
        """As plain data what a file says of it but its name; None for those of GLUE."""
        if self.described_in is None:
            return None
        return {
            "columns": list(self.text_columns),
            "labels": list(self.labels),
            "score_range": None if self.score_range is None else list(self.score_range),
            "metrics": list(self.metrics),
        }

    @property
    def identity(self) -> str:
        """What tells it from every other task: its name, and what its file says, if any."""
        description = self.description
        return self.name if description is None else f"{self.name} {json.dumps(description)}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Every split that carries labels; the test splits do not."""
        return (TRAIN_SPLIT, *self.dev_splits)

    @property
    def is_regression(self) -> bool:
        """Whether the model predicts one number instead of a class."""
        return not self.labels

    @property
    def num_outputs(self) -> int:
        """The width of the model's logits."""
        return len(self.labels) or 1

    @property
    def label_bounds(self) -> tuple[float, float]:
        """The lowest and the highest label that may occur."""
        return self.score_range if self.score_range else (0, len(self.labels) - 1)

    @property
    def primary_metric(self) -> str:
        """What `metrics.primary` gives, in words: "matthews", or "mean of accuracy and f1"."""
        return (
            self.metrics[0] if len(self.metrics) == 1 else f"mean of {' and '.join(self.metrics)}"
        )


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

_ALL = (
    Task(
        "cola",
        ("sentence",),
        ("unacceptable", "acceptable"),
        ("matthews",),
        TsvLayout(
            "CoLA", ("sentence",), "label", header=("source", "label", "annotation", "sentence")
        ),
        "cola",
    ),
    Task(
        "sst2",
        ("sentence",),
        ("negative", "positive"),
        ("accuracy",),
        TsvLayout("SST-2", ("sentence",), "label"),
        "sst2",
    ),
    Task(
        "mrpc",
        _PAIR,
        ("not_equivalent", "equivalent"),
        ("accuracy", "f1"),
        TsvLayout("MRPC", ("#1 String", "#2 String"), "Quality"),
        "mrpc",
    ),
    Task(
        "stsb",
        _PAIR,
        (),
        ("pearson", "spearman"),
        TsvLayout("STS-B", _PAIR, "score"),
        "stsb",
        score_range=(0.0, 5.0),
    ),
    Task(
        "qqp",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        ("accuracy", "f1"),
        TsvLayout("QQP", ("question1", "question2"), "is_duplicate", omits_incomplete_rows=True),
        "qqp",
    ),
    Task(
        "mnli",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        TsvLayout("MNLI", _PAIR, "gold_label", named_labels=True),
        "mnli",
        dev_splits=("validation_matched", "validation_mismatched"),
    ),
    Task(
        "qnli",
        ("question", "sentence"),
        _ENTAILMENT,
        ("accuracy",),
        TsvLayout("QNLI", ("question", "sentence"), "label", named_labels=True),
        "qnli",
    ),
    Task(
        "rte",
        _PAIR,
        _ENTAILMENT,
        ("accuracy",),
        TsvLayout("RTE", _PAIR, "label", named_labels=True),
        "rte",
    ),
    Task(
        "wnli",
        _PAIR,
        ("not_entailment", "entailment"),  # the other way round than RTE and QNLI
        ("accuracy",),
        TsvLayout("WNLI", _PAIR, "label"),
        "wnli",
    ),
    # Not GLUE: two-class movie reviews, the task of the quickstart.
    Task(
        "reviews",
        ("sentence",),
        ("negative", "positive"),
        ("accuracy",),
        TsvLayout("reviews", ("sentence",), "label"),
        None,
    ),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})


def task_named(name: str) -> Task:
    """The task called `name`, exactly as in `TASKS`; UnknownTask suggests the nearest name."""
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name.lower(), TASKS, n=1)
    raise UnknownTask(
        "task",
        expected=f"one of {', '.join(TASKS)}, or a .yaml file that describes another",
        found=repr(name),
        remedy=f"did you mean {near[0]}?" if near else "choose one of these",
    )
