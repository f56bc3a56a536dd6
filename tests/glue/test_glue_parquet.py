import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from nxmi_export.errors import InvalidDataset
from nxmi_export.glue import TASKS, Task
from nxmi_export.glue.parquet import dataset_from_table, read_parquet
from tests.glue.glue_files import AWKWARD, examples, table, write_parquet

RTE = TASKS["rte"]
COLA = TASKS["cola"]


def refusal(task: Task, content: pa.Table) -> str:
    """What is said about a table that is not the task's, whose source is called `file`."""
    with pytest.raises(InvalidDataset) as caught:
        dataset_from_table(task, "validation", content, "file", "00")
    return str(caught.value)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_rows_come_back_as_they_were_written(task: Task, tmp_path: Path) -> None:
    rows = examples(task)
    path = write_parquet(table(task, rows), tmp_path / "validation.parquet")

    dataset = read_parquet(task, "validation", path)

    columns = tuple(zip(*(row.texts for row in rows), strict=True))
    assert dataset.texts == columns
    assert dataset.ids.tolist() == [0, 1, 2, 3, 4, 5]
    kind = np.float64 if task.is_regression else np.int64
    assert dataset.labels.dtype == kind
    assert dataset.labels.tolist() == pytest.approx([row.label for row in rows], abs=1e-6)


def test_source_is_the_path_and_the_hash_that_of_its_bytes(tmp_path: Path) -> None:
    path = write_parquet(table(RTE, examples(RTE)), tmp_path / "validation.parquet")
    dataset = read_parquet(RTE, "validation", path)
    assert dataset.source == str(path)
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert dataset.omitted == ()


def test_ids_are_glues_idx_where_the_file_has_it() -> None:
    content = table(RTE, examples(RTE), idx=pa.array([9, 25, 26, 30, 41, 42], pa.int32()))
    dataset = dataset_from_table(RTE, "validation", content, "file", "00")
    assert dataset.ids.tolist() == [9, 25, 26, 30, 41, 42]


def test_ids_are_row_numbers_where_it_has_not() -> None:
    content = table(RTE, examples(RTE)).drop_columns("idx")
    dataset = dataset_from_table(RTE, "validation", content, "file", "00")
    assert dataset.ids.tolist() == [0, 1, 2, 3, 4, 5]


def test_file_without_the_hubs_metadata_is_read() -> None:
    content = table(COLA, examples(COLA)).replace_schema_metadata(None)
    assert dataset_from_table(COLA, "validation", content, "file", "00").texts == (AWKWARD,)


def test_large_strings_are_text_too() -> None:
    content = table(COLA, examples(COLA), sentence=pa.array(AWKWARD, pa.large_string()))
    assert dataset_from_table(COLA, "validation", content, "file", "00").texts == (AWKWARD,)


def test_missing_columns_are_named() -> None:
    assert refusal(RTE, table(TASKS["qqp"], examples(TASKS["qqp"]))) == (
        "file: expected the columns sentence1, sentence2, label, "
        "found the columns question1, question2, label, idx; use a file of rte, "
        "or rename its columns"
    )


def test_file_of_another_task_with_the_same_columns_is_refused() -> None:
    sst2 = TASKS["sst2"]
    assert refusal(COLA, table(sst2, examples(sst2))) == (
        "file, column label: expected the classes unacceptable, acceptable, "
        "found the classes negative, positive; use a file of cola"
    )


def test_class_names_in_another_order_are_refused() -> None:
    wnli = TASKS["wnli"]
    assert refusal(RTE, table(wnli, examples(wnli))) == (
        "file, column label: expected the classes entailment, not_entailment, "
        "found the classes not_entailment, entailment; use a file of rte"
    )


def test_classes_where_scores_belong_are_refused() -> None:
    assert refusal(TASKS["stsb"], table(RTE, examples(RTE))) == (
        "file, column label: expected no classes, "
        "found the classes entailment, not_entailment; use a file of stsb"
    )


def test_label_out_of_range_is_named_with_its_row() -> None:
    content = table(TASKS["mnli"], examples(TASKS["mnli"]), label=pa.array([0, 1, 2, 3, 4, 0]))
    assert refusal(TASKS["mnli"], content) == (
        "file, row 3: expected a label among 0 (entailment), 1 (neutral), 2 (contradiction), "
        "found 3; correct the file (rows count from 0)"
    )


@pytest.mark.parametrize(("score", "shown"), [(5.5, "5.5"), (float("nan"), "nan")])
def test_score_out_of_range_is_named_with_its_row(score: float, shown: str) -> None:
    task = TASKS["stsb"]
    content = table(task, examples(task), label=pa.array([0.0, 5.0, score, 1.0, 1.0, 9.0]))
    assert refusal(task, content) == (
        f"file, row 2: expected a score from 0 to 5, found {shown}; "
        "correct the file (rows count from 0)"
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_labels_of_a_test_split_are_refused(task: Task) -> None:
    kind = pa.float32() if task.is_regression else pa.int64()
    message = refusal(task, table(task, examples(task), label=pa.array([-1] * 6, kind)))
    assert message.startswith("file, row 0: expected a ")
    assert message.endswith(
        ", found -1; test splits carry no labels, so use a train or validation split"
    )


def test_null_text_is_named_with_its_column_and_row() -> None:
    content = table(RTE, examples(RTE), sentence2=pa.array(["a", "b", "c", None, "e", "f"]))
    assert refusal(RTE, content) == (
        "file, column sentence2, row 3: expected a value, found null; "
        "remove or complete the row (rows count from 0)"
    )


@pytest.mark.parametrize("name", ["rte", "stsb"])
def test_null_label_is_named_with_its_row(name: str) -> None:
    task = TASKS[name]
    content = table(
        task, examples(task), label=table(task, examples(task))["label"].take([0] * 5 + [None])
    )
    assert refusal(task, content) == (
        "file, column label, row 5: expected a value, found null; "
        "remove or complete the row (rows count from 0)"
    )


@pytest.mark.parametrize(
    ("task", "column", "values", "expected", "found"),
    [
        (RTE, "label", pa.array(["entailment"] * 6), "integers", "string"),
        (RTE, "label", pa.array([0.0] * 6), "integers", "double"),
        (RTE, "idx", pa.array(["a"] * 6), "integers", "string"),
        (RTE, "sentence1", pa.array([1] * 6), "text", "int64"),
        (TASKS["stsb"], "label", pa.array(["5.0"] * 6), "numbers", "string"),
    ],
)
def test_column_of_another_type_is_refused(
    task: Task, column: str, values: pa.Array, expected: str, found: str
) -> None:
    assert refusal(task, table(task, examples(task), **{column: values})) == (
        f"file, column {column}: expected {expected}, found the type {found}; convert the column"
    )


def test_file_without_rows_is_refused() -> None:
    assert refusal(RTE, table(RTE, [])) == (
        "file: expected at least one row, found none; fetch the file again"
    )


def parquet_refusal(path: Path) -> InvalidDataset:
    with pytest.raises(InvalidDataset) as caught:
        read_parquet(RTE, "validation", path)
    return caught.value


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a Parquet file at all"])
def test_damaged_file_is_refused_with_the_readers_reason(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "validation.parquet"
    path.write_bytes(content)
    error = parquet_refusal(path)
    reason = str(error.__cause__).splitlines()[0]
    assert reason
    assert str(error) == (
        f"{path}: expected a Parquet file, found a file that does not read as one ({reason}); "
        "fetch it again"
    )


def test_file_cut_in_half_is_refused(tmp_path: Path) -> None:
    path = write_parquet(table(RTE, examples(RTE)), tmp_path / "validation.parquet")
    path.write_bytes(path.read_bytes()[:-40])
    assert "found a file that does not read as one" in str(parquet_refusal(path))


def test_damage_inside_a_compressed_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "validation.parquet"
    parquet.write_table(table(RTE, examples(RTE) * 100), path, compression="zstd")
    content = bytearray(path.read_bytes())
    frame = content.index(b"\x28\xb5\x2f\xfd")  # where a zstd frame begins
    content[frame : frame + 4] = b"\0\0\0\0"
    path.write_bytes(content)
    error = parquet_refusal(path)
    assert isinstance(error.__cause__, OSError)
    assert "found a file that does not read as one (ZSTD decompression failed" in str(error)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    latin = pa.array([b"caf\xe9"] * 6, pa.binary()).view(pa.string())
    path = write_parquet(
        table(RTE, examples(RTE), sentence1=latin), tmp_path / "validation.parquet"
    )
    assert "Invalid UTF8" in str(parquet_refusal(path))
