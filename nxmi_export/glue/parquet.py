"""Parquet file, or a table in memory with the hub's columns, to Dataset."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from nxmi_export.errors import InvalidDataset
from nxmi_export.glue.dataset import Dataset, LabelArray
from nxmi_export.glue.digest import sha256_of
from nxmi_export.glue.labels import check_labels
from nxmi_export.glue.tasks import LABEL_COLUMN, Task

__all__ = ["dataset_from_table", "read_parquet"]

ID_COLUMN = "idx"
HUB_SCHEMA = b"huggingface"  # schema metadata in which `datasets` declares the class names


def read_parquet(task: Task, split: str, path: Path) -> Dataset:
    """The split in `path`; InvalidDataset for a damaged file or one of another task."""
    sha256 = sha256_of([path])
    try:
        with path.open("rb") as file:
            # pyarrow's own threads, next to torch's, now and then abort the process as it exits.
            table = parquet.ParquetFile(file, pre_buffer=False).read(use_threads=False)
        # Reading alone lets text that is not UTF-8 pass, to fail later and elsewhere.
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise InvalidDataset(
            path,
            expected="a Parquet file",
            found=f"a file that does not read as one ({str(error).splitlines()[0]})",
            remedy="fetch it again",
        ) from error
    return dataset_from_table(task, split, table, str(path), sha256)


def dataset_from_table(
    task: Task, split: str, table: pa.Table, source: str, sha256: str
) -> Dataset:
    """The rows of `table`, whose columns are the hub's; `idx` may be missing.

    Raises InvalidDataset for missing columns, columns of another type, null values, labels the
    task does not have, class names in another order, and a table without rows.
    """
    _check_columns(task, table, source)
    _check_class_names(task, table, source)
    rows = np.arange(len(table), dtype=np.int64)
    labels = _labels(task, table, source)
    check_labels(task, labels, rows, source)
    texts = tuple(_texts(table, name, source) for name in task.text_columns)
    ids = _integers(table, ID_COLUMN, source) if ID_COLUMN in table.column_names else rows
    return Dataset(task, split, texts, labels, ids, source, sha256)


def _check_columns(task: Task, table: pa.Table, source: str) -> None:
    needed = (*task.text_columns, LABEL_COLUMN)
    if not set(needed) <= set(table.column_names):
        raise InvalidDataset(
            source,
            expected=f"the columns {', '.join(needed)}",
            found=f"the columns {', '.join(table.column_names)}",
            remedy=f"use a file of {task.name}, or rename its columns",
        )
    if len(table) == 0:
        raise InvalidDataset(
            source, expected="at least one row", found="none", remedy="fetch the file again"
        )


def _check_class_names(task: Task, table: pa.Table, source: str) -> None:
    """Files of the same columns differ in meaning: SST-2 read as CoLA would score without this."""
    declared = json.loads((table.schema.metadata or {}).get(HUB_SCHEMA, b"{}"))
    label = declared.get("info", {}).get("features", {}).get(LABEL_COLUMN, {})
    names = tuple(label.get("names", task.labels))
    if names != task.labels:
        raise InvalidDataset(
            f"{source}, column {LABEL_COLUMN}",
            expected=_classes(task.labels),
            found=_classes(names),
            remedy=f"use a file of {task.name}",
        )


def _classes(names: tuple[str, ...]) -> str:
    return f"the classes {', '.join(names)}" if names else "no classes"


def _labels(task: Task, table: pa.Table, source: str) -> LabelArray:
    if not task.is_regression:
        return _integers(table, LABEL_COLUMN, source)
    column = _column(table, LABEL_COLUMN, source)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise _wrong_type(column, LABEL_COLUMN, "numbers", source)
    return np.array(column.to_numpy(), dtype=np.float64)


def _integers(table: pa.Table, name: str, source: str) -> NDArray[np.int64]:
    column = _column(table, name, source)
    if not pa.types.is_integer(column.type):
        raise _wrong_type(column, name, "integers", source)
    return np.array(column.to_numpy(), dtype=np.int64)


def _texts(table: pa.Table, name: str, source: str) -> tuple[str, ...]:
    column = _column(table, name, source)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise _wrong_type(column, name, "text", source)
    return tuple(column.to_pylist())


def _column(table: pa.Table, name: str, source: str) -> pa.ChunkedArray:
    column = table.column(name)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InvalidDataset(
            f"{source}, column {name}, row {row}",
            expected="a value",
            found="null",
            remedy="remove or complete the row (rows count from 0)",
        )
    return column


def _wrong_type(column: pa.ChunkedArray, name: str, expected: str, source: str) -> InvalidDataset:
    return InvalidDataset(
        f"{source}, column {name}",
        expected=expected,
        found=f"the type {column.type}",
        remedy="convert the column",
    )
