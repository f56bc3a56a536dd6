from pathlib import Path

import pytest

from nxmi_export.errors import DatasetNotFound
from nxmi_export.glue import TASKS, Task, load_dataset
from tests.glue.glue_files import examples, table, write_lines, write_parquet, write_tsv

SST2, MRPC, MNLI = (TASKS[name] for name in ("sst2", "mrpc", "mnli"))

CLASSIC_FOLDERS = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli": "MNLI",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
    "reviews": "reviews",
}


def put_parquet(task: Task, path: Path) -> Path:
    return write_parquet(table(task, examples(task)), path)


@pytest.mark.parametrize(
    "place",
    [
        "sst2/validation.parquet",
        "sst2/validation-00000-of-00001.parquet",
        "validation.parquet",
        "validation-00000-of-00001.parquet",
    ],
)
def test_parquet_is_found_under_each_of_its_names(place: str, tmp_path: Path) -> None:
    path = put_parquet(SST2, tmp_path / place)
    assert load_dataset(SST2, "validation", tmp_path).source == str(path)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_classic_file_is_found_in_its_folder(task: Task, tmp_path: Path) -> None:
    for split in task.splits:
        name = split.replace("validation", "dev") + ".tsv"
        path = write_tsv(task, examples(task), tmp_path / CLASSIC_FOLDERS[task.name] / name)
        dataset = load_dataset(task, split, tmp_path)
        assert (dataset.source, dataset.split, dataset.task) == (str(path), split, task)


def test_classic_file_is_found_in_the_directory_itself(tmp_path: Path) -> None:
    path = write_tsv(SST2, examples(SST2), tmp_path / "dev.tsv")
    assert load_dataset(SST2, "validation", tmp_path).source == str(path)


def test_matched_and_mismatched_are_two_files(tmp_path: Path) -> None:
    matched = put_parquet(MNLI, tmp_path / "mnli" / "validation_matched.parquet")
    mismatched = put_parquet(MNLI, tmp_path / "mnli" / "validation_mismatched.parquet")
    sources = [load_dataset(MNLI, split, tmp_path).source for split in MNLI.dev_splits]
    assert sources == [str(matched), str(mismatched)]


def test_parquet_comes_before_tsv(tmp_path: Path) -> None:
    write_tsv(SST2, examples(SST2), tmp_path / "SST-2" / "dev.tsv")
    path = put_parquet(SST2, tmp_path / "sst2" / "validation.parquet")
    assert load_dataset(SST2, "validation", tmp_path).source == str(path)


def test_published_paraphrases_come_before_the_dev_tsv_made_from_them(tmp_path: Path) -> None:
    write_tsv(MRPC, examples(MRPC), tmp_path / "MRPC" / "dev.tsv")
    path = write_tsv(MRPC, examples(MRPC), tmp_path / "MRPC" / "msr_paraphrase_train.txt")
    write_lines(["703\t803"], tmp_path / "MRPC" / "dev_ids.tsv")
    dataset = load_dataset(MRPC, "validation", tmp_path)
    assert dataset.source == str(path)
    assert dataset.ids.tolist() == [3]


def test_published_paraphrases_without_the_dev_ids_do_not_count(tmp_path: Path) -> None:
    path = write_tsv(MRPC, examples(MRPC), tmp_path / "MRPC" / "dev.tsv")
    write_tsv(MRPC, examples(MRPC), tmp_path / "MRPC" / "msr_paraphrase_train.txt")
    assert load_dataset(MRPC, "validation", tmp_path).source == str(path)


def test_train_subset_stands_in_for_a_missing_train_file_and_says_so(tmp_path: Path) -> None:
    path = put_parquet(MNLI, tmp_path / "mnli" / "train_subset.parquet")
    assert load_dataset(MNLI, "train", tmp_path).source == str(path)


@pytest.mark.parametrize("whole", ["mnli/train.parquet", "MNLI/train.tsv"])
def test_whole_train_file_comes_before_the_subset(whole: str, tmp_path: Path) -> None:
    put_parquet(MNLI, tmp_path / "mnli" / "train_subset.parquet")
    if whole.endswith(".tsv"):
        path = write_tsv(MNLI, examples(MNLI), tmp_path / whole)
    else:
        path = put_parquet(MNLI, tmp_path / whole)
    assert load_dataset(MNLI, "train", tmp_path).source == str(path)


def refusal(task: Task, split: str, data_dir: Path | None) -> str:
    with pytest.raises(DatasetNotFound) as caught:
        load_dataset(task, split, data_dir)
    return str(caught.value)


def test_missing_file_is_refused_with_every_path_that_was_tried(tmp_path: Path) -> None:
    assert refusal(MRPC, "validation", tmp_path) == (
        "mrpc validation: expected one of "
        f"{tmp_path}/mrpc/validation.parquet, "
        f"{tmp_path}/mrpc/validation-00000-of-00001.parquet, "
        f"{tmp_path}/validation.parquet, "
        f"{tmp_path}/validation-00000-of-00001.parquet, "
        f"{tmp_path}/MRPC/msr_paraphrase_train.txt with {tmp_path}/MRPC/dev_ids.tsv, "
        f"{tmp_path}/MRPC/dev.tsv, "
        f"{tmp_path}/msr_paraphrase_train.txt with {tmp_path}/dev_ids.tsv, "
        f"{tmp_path}/dev.tsv, found none of these files; "
        "give the directory that holds the task's files, or none to read the hub"
    )


def test_subset_is_among_the_paths_only_for_the_train_split(tmp_path: Path) -> None:
    subset = f"{tmp_path}/qqp/train_subset.parquet"
    assert subset in refusal(TASKS["qqp"], "train", tmp_path)
    put_parquet(TASKS["qqp"], tmp_path / "qqp" / "validation_subset.parquet")
    assert "_subset.parquet" not in refusal(TASKS["qqp"], "validation", tmp_path)


def test_missing_directory_is_said_to_be_missing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert refusal(SST2, "validation", nowhere).endswith(
        f", found no directory {nowhere}; "
        "give the directory that holds the task's files, or none to read the hub"
    )


@pytest.mark.parametrize("data_dir", [None, Path("glue")])
def test_test_split_is_refused_because_it_has_no_labels(data_dir: Path | None) -> None:
    assert refusal(MNLI, "test_matched", data_dir) == (
        "mnli, split: expected one of train, validation_matched, validation_mismatched, "
        "found 'test_matched'; test splits carry no labels, so there is nothing to score on them"
    )


def test_unknown_split_is_refused() -> None:
    assert refusal(SST2, "dev", None) == (
        "sst2, split: expected one of train, validation, found 'dev'; choose one of these"
    )
