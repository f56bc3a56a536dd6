"""A task of one's own, described in a YAML or JSON file, in; the `Task` that GLUE's are too out.

name: topics                           # of files and reports; data lies in DIR/topics
columns: [headline]                    # the text, or the two texts of a pair
labels: [sports, politics, science]    # the classes by index; for a regression instead:
# score_range: [0, 5]
metrics: [accuracy]                    # the default; for a regression pearson and spearman
dev_splits: [validation]               # the default
"""

import math
import re
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from nxmi_export.errors import UsageError
from nxmi_export.glue.labels import same_label
from nxmi_export.glue.tasks import LABEL_COLUMN, TASKS, TRAIN_SPLIT, Metric, Task, TsvLayout
from nxmi_export.glue.tasks import task_named as known_task
from nxmi_export.recipe.read import read_plain_data

__all__ = ["SUFFIXES", "read_task", "task_from"]

SUFFIXES = (".yaml", ".yml", ".json")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # it becomes part of file names
_OF_CLASSES: tuple[Metric, ...] = ("accuracy", "f1", "matthews")
_OF_SCORES: tuple[Metric, ...] = ("pearson", "spearman")
_OF_TWO_CLASSES = {"f1", "matthews"}
_RESERVED_COLUMNS = {LABEL_COLUMN, "idx"}


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    columns: list[str]
    labels: list[str] = []
    score_range: list[float] = []
    metrics: list[str] = []
    dev_splits: list[str] = ["validation"]


def task_from(text: str) -> Task:
    """The task called `text`, or the one that a file of that name describes.

    A name with one of `SUFFIXES` is a file's. Raises UnknownTask and UsageError.
    """
    path = Path(text)
    return read_task(path) if path.suffix.lower() in SUFFIXES else known_task(text)


def read_task(path: Path) -> Task:
    """The task that the file at `path` describes; raises UsageError, which says what is wrong."""
    plain = read_plain_data(path, "task", UsageError)
    if not isinstance(plain, dict):
        raise _wrong(path, "a mapping of keys", f"{plain!r}", f"the keys are {_keys()}")
    try:
        found = _Document.model_validate(plain)
    except ValidationError as error:
        raise _complaint(path, error.errors(include_url=False)[0]) from error
    _check(path, found)
    metrics = found.metrics or (["accuracy"] if found.labels else list(_OF_SCORES))
    low_and_high = (found.score_range[0], found.score_range[1]) if found.score_range else None
    return Task(
        found.name,
        tuple(found.columns),
        tuple(found.labels),
        tuple(each for each in get_args(Metric) if each in metrics),
        TsvLayout(found.name, tuple(found.columns), LABEL_COLUMN),
        hub_config=None,
        dev_splits=tuple(found.dev_splits),
        score_range=low_and_high,
        described_in=path,
    )


def _check(path: Path, found: _Document) -> None:
    _check_names(path, found)
    _check_outputs(path, found)
    allowed = _OF_CLASSES if found.labels else _OF_SCORES
    what = "classes" if found.labels else "a regression"
    for metric in found.metrics:
        if metric not in allowed:
            raise _wrong(
                path, f"metrics of {what}: {', '.join(allowed)}", repr(metric), "name one of these"
            )
        if metric in _OF_TWO_CLASSES and len(found.labels) != 2:
            raise _wrong(
                path,
                f"two labels for {metric}, which is of the second of two classes",
                f"{len(found.labels)}",
                "take accuracy",
            )
    _check_once(path, "metrics", found.metrics)


def _check_names(path: Path, found: _Document) -> None:
    if not _NAME.fullmatch(found.name):
        raise _wrong(
            path,
            "a name of lower-case letters, digits, - and _",
            repr(found.name),
            "choose one that can be part of a file's name",
        )
    if found.name in TASKS:
        raise _wrong(
            path, "a name of its own", f"{found.name}, which GLUE or the demo has", "choose another"
        )
    if len(found.columns) not in (1, 2):
        raise _wrong(
            path, "one text column, or two", f"{len(found.columns)}", "name the texts' columns"
        )
    if reserved := _RESERVED_COLUMNS.intersection(found.columns):
        raise _wrong(
            path,
            "columns of texts",
            f"{min(reserved)}, which holds none",
            "name the texts' columns",
        )
    if not found.dev_splits or TRAIN_SPLIT in found.dev_splits:
        raise _wrong(
            path,
            "dev splits beside train",
            ", ".join(found.dev_splits) or "none",
            "name those to score on, such as validation",
        )
    _check_once(path, "columns", found.columns)
    # The file of a split called validation may be dev.tsv.
    files = [each.replace("dev", "validation") for each in found.dev_splits]
    _check_once(path, "dev_splits", files)


def _check_outputs(path: Path, found: _Document) -> None:
    if bool(found.labels) == bool(found.score_range):
        raise _wrong(
            path,
            "labels for classes, or score_range for a regression",
            "both" if found.labels else "neither",
            "write one of the two",
        )
    if len(found.labels) == 1:
        raise _wrong(path, "at least two labels", "one", "name every class, in order of its index")
    if found.score_range and not (
        len(found.score_range) == 2
        and all(map(math.isfinite, found.score_range))
        and found.score_range[0] < found.score_range[1]
    ):
        raise _wrong(
            path,
            "the lowest and the highest score as score_range",
            f"{found.score_range}",
            "write two numbers, the lower one first",
        )
    _check_once(path, "labels", [same_label(each) for each in found.labels])


def _check_once(path: Path, key: str, names: list[str]) -> None:
    twice = [each for each in names if names.count(each) > 1 or not each.strip()]
    if twice:
        raise _wrong(path, f"{key} that are named once each", repr(twice[0]), "correct the list")


def _complaint(path: Path, error: ErrorDetails) -> UsageError:
    place = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "missing":
            return _wrong(path, f"the key {place}", "none", "write it too")
        case "extra_forbidden":
            return _wrong(path, "known keys", repr(place), f"the keys are {_keys()}")
        case "string_type":
            remedy = "write it in quotes" if isinstance(error["input"], int | float) else "write it"
            return _wrong(path, f"a text for {place}", f"{error['input']!r}", remedy)
        case _:
            kind = "a list" if error["type"] == "list_type" else "a number"
            return _wrong(path, f"{kind} for {place}", f"{error['input']!r}", f"write {kind}")


def _keys() -> str:
    return ", ".join(_Document.model_fields)


def _wrong(path: Path, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(path, expected=expected, found=found, remedy=remedy)
