"""TSV file of the classic `glue_data` tree to Dataset, row for row what the hub has.

The hub's rows were made from these files without any quoting (`csv.QUOTE_NONE`: a quotation mark
is text), with universal newlines, and numbered from 0 below the header.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nxmi_export.errors import InvalidDataset
from nxmi_export.glue.dataset import Dataset, LabelArray
from nxmi_export.glue.digest import sha256_of
from nxmi_export.glue.labels import UNLABELLED, allowed_labels, check_labels
from nxmi_export.glue.tasks import Task, TsvLayout

__all__ = ["Row", "dataset_from_rows", "numbered_rows", "read_tsv"]


@dataclass(frozen=True)
class Row:
    """One line of a file: its number, from 0 below the header, and its cells by column name.

    A line that ends early lacks the cells of the last columns.
    """

    number: int
    cells: dict[str, str]


def read_tsv(task: Task, split: str, path: Path) -> Dataset:
    """The split in `path`.

    Raises InvalidDataset for a missing column, a row cut short (except in QQP, whose own files
    have some), a label the task does not have, text that is not UTF-8, and a file without rows.
    """
    rows = numbered_rows(path, _needed(task.tsv), task.tsv.header)
    return dataset_from_rows(task, split, rows, [path])


def dataset_from_rows(
    task: Task, split: str, rows: Iterable[Row], paths: Sequence[Path]
) -> Dataset:
    """The task's columns of `rows`, which come from `paths[0]`; `paths` are what is hashed."""
    path, layout = paths[0], task.tsv
    needed = _needed(layout)
    sha256 = sha256_of(paths)
    kept: list[Row] = []
    omitted: list[int] = []
    for row in rows:
        if row.cells.keys() >= set(needed):
            kept.append(Row(row.number, {name: row.cells[name] for name in needed}))
        elif layout.omits_incomplete_rows:
            omitted.append(row.number)
        else:
            raise _cut_short(row, needed, path)
    if not kept:
        raise InvalidDataset(
            path, expected="at least one row", found="none", remedy="fetch the file again"
        )
    ids = np.array([row.number for row in kept], dtype=np.int64)
    labels = _labels(task, kept, path)
    check_labels(task, labels, ids, str(path))
    texts = tuple(tuple(row.cells[name] for row in kept) for name in layout.text_columns)
    return Dataset(task, split, texts, labels, ids, str(path), sha256, tuple(omitted))


def numbered_rows(
    path: Path, needed: tuple[str, ...], header: tuple[str, ...] | None = None
) -> Iterator[Row]:
    """The file's rows, which must have the columns `needed`; blank lines do not count.

    `header` names the columns of a file that has no header line.
    """
    # utf-8-sig: MRPC's original file starts with a byte order mark.
    with path.open(encoding="utf-8-sig") as file:
        lines = filter(None, csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        try:
            columns = header or tuple(next(lines, ()))
            _check_columns(columns, needed, path)
            for number, cells in enumerate(lines):
                yield Row(number, dict(zip(columns, cells, strict=False)))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InvalidDataset(
                path,
                expected="tab-separated text in UTF-8",
                found=f"other content ({error})",
                remedy="fetch the file again",
            ) from error


def _needed(layout: TsvLayout) -> tuple[str, ...]:
    return (*layout.text_columns, layout.label_column)


def _check_columns(columns: tuple[str, ...], needed: tuple[str, ...], path: Path) -> None:
    if not set(needed) <= set(columns):
        raise InvalidDataset(
            path,
            expected=f"the columns {', '.join(needed)}",
            found=f"the columns {', '.join(columns)}" if columns else "an empty file",
            remedy="use the task's own file, or rename its columns",
        )


def _cut_short(row: Row, needed: tuple[str, ...], path: Path) -> InvalidDataset:
    return InvalidDataset(
        f"{path}, row {row.number}",
        expected=f"the columns {', '.join(needed)}",
        found=f"only {', '.join(row.cells)}",
        remedy="fetch the file again (rows count from 0)",
    )


def _labels(task: Task, rows: Sequence[Row], path: Path) -> LabelArray:
    if task.is_regression:
        scores = [_score(task, row, path) for row in rows]
        # The hub stores scores as float32, so 3.8 must be the same number here. A score too large
        # for that becomes infinite, which the range check refuses.
        with np.errstate(over="ignore"):
            return np.array(scores, dtype=np.float32).astype(np.float64)
    return np.array([_class_index(task, row, path) for row in rows], dtype=np.int64)


def _score(task: Task, row: Row, path: Path) -> float:
    written = row.cells[task.tsv.label_column]
    try:
        return float(written)
    except ValueError as error:
        raise _wrong_label(row, path, allowed_labels(task), written) from error


def _class_index(task: Task, row: Row, path: Path) -> int:
    written = row.cells[task.tsv.label_column]
    if task.tsv.named_labels:
        if written not in task.labels:
            raise _wrong_label(row, path, f"a label among {', '.join(task.labels)}", written)
        return task.labels.index(written)
    if written == str(UNLABELLED):
        return UNLABELLED  # refused by check_labels, which knows what it means
    if written not in {str(index) for index in range(len(task.labels))}:
        raise _wrong_label(row, path, allowed_labels(task), written)
    return int(written)


def _wrong_label(row: Row, path: Path, expected: str, written: str) -> InvalidDataset:
    return InvalidDataset(
        f"{path}, row {row.number}",
        expected=expected,
        found=repr(written),
        remedy="correct the file (rows count from 0)",
    )
