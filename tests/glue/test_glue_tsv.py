import hashlib
from pathlib import Path

import numpy as np
import pytest

from nxmi_export.errors import InvalidDataset
from nxmi_export.glue import TASKS, Dataset, Task
from nxmi_export.glue.digest import sha256_of
from nxmi_export.glue.paraphrases import read_paraphrases
from nxmi_export.glue.parquet import read_parquet
from nxmi_export.glue.tsv import read_tsv
from tests.glue.glue_files import (
    AWKWARD,
    examples,
    table,
    tsv_line,
    write_lines,
    write_parquet,
    write_tsv,
)

SST2, MRPC, MNLI, QQP = (TASKS[name] for name in ("sst2", "mrpc", "mnli", "qqp"))


def assert_same_rows(read: Dataset, expected: Dataset) -> None:
    assert read.texts == expected.texts
    np.testing.assert_array_equal(read.labels, expected.labels, strict=True)
    np.testing.assert_array_equal(read.ids, expected.ids, strict=True)


def refusal(task: Task, path: Path) -> str:
    with pytest.raises(InvalidDataset) as caught:
        read_tsv(task, "validation", path)
    return str(caught.value)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_classic_file_gives_the_same_rows_as_the_hubs_parquet(task: Task, tmp_path: Path) -> None:
    rows = examples(task)
    hub = write_parquet(table(task, rows), tmp_path / "validation.parquet")
    classic = write_tsv(task, rows, tmp_path / "dev.tsv")
    assert_same_rows(read_tsv(task, "validation", classic), read_parquet(task, "validation", hub))


def test_source_is_the_path_and_the_hash_that_of_its_bytes(tmp_path: Path) -> None:
    path = write_tsv(SST2, examples(SST2), tmp_path / "dev.tsv")
    dataset = read_tsv(SST2, "validation", path)
    assert dataset.source == str(path)
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_windows_newlines_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    path = write_tsv(SST2, examples(SST2), tmp_path / "dev.tsv")
    plain = read_tsv(SST2, "validation", path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert_same_rows(read_tsv(SST2, "validation", path), plain)


def test_row_cut_short_is_refused_with_its_number(tmp_path: Path) -> None:
    path = write_lines(["sentence\tlabel", "fine\t1", "cut sho"], tmp_path / "dev.tsv")
    assert refusal(SST2, path) == (
        f"{path}, row 1: expected the columns sentence, label, found only sentence; "
        "fetch the file again (rows count from 0)"
    )


def test_rows_cut_short_in_qqp_are_omitted_and_reported_as_on_the_hub(tmp_path: Path) -> None:
    rows = examples(QQP)
    path = write_tsv(QQP, rows, tmp_path / "train.tsv")
    lines = path.read_bytes().decode().split("\n")
    path.write_bytes("\n".join([*lines[:3], "2\t3\t4\thalf a question", *lines[3:]]).encode())

    dataset = read_tsv(QQP, "train", path)

    assert dataset.omitted == (2,)
    assert dataset.texts[0] == AWKWARD
    assert dataset.ids.tolist() == [0, 1, 3, 4, 5, 6]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = write_lines(["index\tsentence", "0\tno labels: a test split"], tmp_path / "dev.tsv")
    assert refusal(SST2, path) == (
        f"{path}: expected the columns sentence, label, found the columns index, sentence; "
        "use the task's own file, or rename its columns"
    )


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = write_lines([], tmp_path / "dev.tsv")
    assert refusal(SST2, path) == (
        f"{path}: expected the columns sentence, label, found an empty file; "
        "use the task's own file, or rename its columns"
    )


@pytest.mark.parametrize(("name", "lines"), [("sst2", ["sentence\tlabel"]), ("cola", [])])
def test_file_without_rows_is_refused(name: str, lines: list[str], tmp_path: Path) -> None:
    path = write_lines(lines, tmp_path / "dev.tsv")
    assert refusal(TASKS[name], path) == (
        f"{path}: expected at least one row, found none; fetch the file again"
    )


@pytest.mark.parametrize("written", ["2", "positive", "", "1.0"])
def test_label_that_is_not_an_index_is_refused(written: str, tmp_path: Path) -> None:
    path = write_lines(["sentence\tlabel", "fine\t1", f"bad\t{written}"], tmp_path / "dev.tsv")
    assert refusal(SST2, path) == (
        f"{path}, row 1: expected a label among 0 (negative), 1 (positive), found {written!r}; "
        "correct the file (rows count from 0)"
    )


def test_label_of_a_test_split_is_refused(tmp_path: Path) -> None:
    path = write_lines(["sentence\tlabel", "fine\t-1"], tmp_path / "dev.tsv")
    assert refusal(SST2, path) == (
        f"{path}, row 0: expected a label among 0 (negative), 1 (positive), found -1; "
        "test splits carry no labels, so use a train or validation split"
    )


def test_name_that_is_no_label_is_refused(tmp_path: Path) -> None:
    path = write_tsv(MNLI, examples(MNLI), tmp_path / "dev_matched.tsv")
    path.write_bytes(path.read_bytes().replace(b"\tcontradiction\n", b"\t-\n"))
    assert refusal(MNLI, path) == (
        f"{path}, row 0: expected a label among entailment, neutral, contradiction, found '-'; "
        "correct the file (rows count from 0)"
    )


@pytest.mark.parametrize(
    ("written", "shown"), [("high", "'high'"), ("5.001", "5.001"), ("1e39", "inf")]
)
def test_score_that_is_none_is_refused(written: str, shown: str, tmp_path: Path) -> None:
    lines = ["sentence1\tsentence2\tscore", "a\tb\t5.0", f"a\tb\t{written}"]
    path = write_lines(lines, tmp_path / "dev.tsv")
    assert refusal(TASKS["stsb"], path) == (
        f"{path}, row 1: expected a score from 0 to 5, found {shown}; "
        "correct the file (rows count from 0)"
    )


def test_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_bytes("sentence\tlabel\ncafé\t1\n".encode("latin-1"))
    assert refusal(SST2, path) == (
        f"{path}: expected tab-separated text in UTF-8, found other content ("
        "'utf-8' codec can't decode byte 0xe9 in position 18: invalid continuation byte); "
        "fetch the file again"
    )


def test_file_with_an_endless_line_is_refused(tmp_path: Path) -> None:
    path = write_lines(["sentence\tlabel", "a" * 200_000], tmp_path / "dev.tsv")
    assert refusal(SST2, path) == (
        f"{path}: expected tab-separated text in UTF-8, found other content ("
        "field larger than field limit (131072)); fetch the file again"
    )


def test_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset) as caught:
        sha256_of([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path}: expected a readable file, found an error (Is a directory); "
        "check its permissions"
    )


class TestPublishedParaphrases:
    """MRPC as `msr_paraphrase_train.txt`, cut in two by GLUE's list of dev pairs."""

    @pytest.fixture
    def published(self, tmp_path: Path) -> Path:
        path = write_tsv(MRPC, examples(MRPC), tmp_path / "msr_paraphrase_train.txt")
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        return path

    @pytest.fixture
    def dev_ids(self, tmp_path: Path) -> Path:
        return write_lines(["701\t801", "704\t804"], tmp_path / "dev_ids.tsv")

    def test_validation_is_the_listed_pairs_under_their_number_in_the_file(
        self, published: Path, dev_ids: Path
    ) -> None:
        dataset = read_paraphrases(MRPC, "validation", published, dev_ids)
        assert dataset.texts[0] == (AWKWARD[1], AWKWARD[4])
        assert dataset.labels.tolist() == [0, 0]
        assert dataset.ids.tolist() == [1, 4]

    def test_train_is_all_others(self, published: Path, dev_ids: Path) -> None:
        dataset = read_paraphrases(MRPC, "train", published, dev_ids)
        assert dataset.texts[0] == (AWKWARD[0], AWKWARD[2], AWKWARD[3], AWKWARD[5])
        assert dataset.ids.tolist() == [0, 2, 3, 5]

    def test_both_ids_decide_not_one(self, published: Path, tmp_path: Path) -> None:
        dev_ids = write_lines(["701\t801", "702\t803"], tmp_path / "dev_ids.tsv")
        dataset = read_paraphrases(MRPC, "validation", published, dev_ids)
        assert dataset.ids.tolist() == [1]

    def test_same_texts_and_labels_as_the_dev_tsv_made_from_it(
        self, published: Path, dev_ids: Path, tmp_path: Path
    ) -> None:
        lines = [tsv_line(MRPC, number, examples(MRPC)[number]) for number in (1, 4)]
        header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
        cut = read_tsv(MRPC, "validation", write_lines([header, *lines], tmp_path / "dev.tsv"))
        dataset = read_paraphrases(MRPC, "validation", published, dev_ids)
        assert dataset.texts == cut.texts
        assert dataset.labels.tolist() == cut.labels.tolist()

    def test_source_is_the_published_file_and_the_hash_that_of_both(
        self, published: Path, dev_ids: Path
    ) -> None:
        dataset = read_paraphrases(MRPC, "validation", published, dev_ids)
        both = published.read_bytes() + dev_ids.read_bytes()
        assert dataset.source == str(published)
        assert dataset.sha256 == hashlib.sha256(both).hexdigest()

    def test_pair_cut_short_is_refused(self, published: Path, dev_ids: Path) -> None:
        published.write_bytes(published.read_bytes() + b"1\t900")
        with pytest.raises(InvalidDataset) as caught:
            read_paraphrases(MRPC, "train", published, dev_ids)
        assert str(caught.value) == (
            f"{published}, row 6: expected the columns #1 String, #2 String, Quality, "
            "found only Quality, #1 ID; fetch the file again (rows count from 0)"
        )

    def test_file_without_ids_is_refused(self, dev_ids: Path, tmp_path: Path) -> None:
        path = write_lines(["Quality\t#1 String\t#2 String"], tmp_path / "other.txt")
        with pytest.raises(InvalidDataset) as caught:
            read_paraphrases(MRPC, "validation", path, dev_ids)
        assert str(caught.value) == (
            f"{path}: expected the columns #1 ID, #2 ID, Quality, "
            "found the columns Quality, #1 String, #2 String; "
            "use the task's own file, or rename its columns"
        )

    def test_list_that_matches_no_pair_leaves_no_rows(
        self, published: Path, tmp_path: Path
    ) -> None:
        dev_ids = write_lines(["1\t2"], tmp_path / "dev_ids.tsv")
        with pytest.raises(InvalidDataset) as caught:
            read_paraphrases(MRPC, "validation", published, dev_ids)
        assert str(caught.value) == (
            f"{published}: expected at least one row, found none; fetch the file again"
        )
