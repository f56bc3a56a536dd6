"""GLUE itself: every dev set has its published size and balance, and reads alike from TSV."""

from pathlib import Path

import numpy as np
import pytest

from nxmi_export.glue import TASKS, Dataset, load_dataset
from nxmi_export.glue.tsv import read_tsv
from tests.glue.glue_files import Example, write_tsv

pytestmark = pytest.mark.glue

BALANCES = {
    ("cola", "validation"): [322, 721],
    ("sst2", "validation"): [428, 444],
    ("mrpc", "validation"): [129, 279],
    ("qqp", "validation"): [25545, 14885],
    ("mnli", "validation_matched"): [3479, 3123, 3213],
    ("mnli", "validation_mismatched"): [3463, 3129, 3240],
    ("qnli", "validation"): [2702, 2761],
    ("rte", "validation"): [146, 131],
    ("wnli", "validation"): [40, 31],
}
SIZES = {
    ("cola", "validation"): 1043,
    ("sst2", "validation"): 872,
    ("mrpc", "validation"): 408,
    ("stsb", "validation"): 1500,
    ("qqp", "validation"): 40430,
    ("mnli", "validation_matched"): 9815,
    ("mnli", "validation_mismatched"): 9832,
    ("qnli", "validation"): 5463,
    ("rte", "validation"): 277,
    ("wnli", "validation"): 71,
}


@pytest.fixture(scope="module", params=SIZES, ids="-".join)
def dev_set(request: pytest.FixtureRequest, glue_dir: Path) -> Dataset:
    name, split = request.param
    return load_dataset(TASKS[name], split, glue_dir)


def test_every_dev_set_is_covered() -> None:
    glue = [task for task in TASKS.values() if task.hub_config]
    assert {(task.name, split) for task in glue for split in task.dev_splits} == set(SIZES)


def test_dev_set_has_its_published_size(dev_set: Dataset) -> None:
    assert len(dev_set) == SIZES[dev_set.task.name, dev_set.split]
    assert {len(column) for column in dev_set.texts} == {len(dev_set)}
    assert len(set(dev_set.ids.tolist())) == len(dev_set)


def test_dev_set_has_its_published_balance(dev_set: Dataset) -> None:
    if dev_set.task.is_regression:
        assert dev_set.labels.min() == 0.0
        assert dev_set.labels.max() == 5.0
        assert dev_set.labels.mean() == pytest.approx(2.3639, abs=5e-5)
    else:
        counts = np.bincount(dev_set.labels.astype(np.int64))
        assert counts.tolist() == BALANCES[dev_set.task.name, dev_set.split]


def test_dev_set_reads_alike_from_the_classic_layout(dev_set: Dataset, tmp_path: Path) -> None:
    texts = zip(*dev_set.texts, strict=True)
    kind = float if dev_set.task.is_regression else int
    rows = [Example(row, kind(label)) for row, label in zip(texts, dev_set.labels, strict=True)]
    path = write_tsv(dev_set.task, rows, tmp_path / "dev.tsv")

    read = read_tsv(dev_set.task, dev_set.split, path)

    assert read.texts == dev_set.texts
    np.testing.assert_array_equal(read.labels, dev_set.labels, strict=True)


@pytest.mark.parametrize(("name", "rows"), [("rte", 2490), ("mrpc", 3668), ("cola", 8551)])
def test_train_set_has_its_published_size(name: str, rows: int, glue_dir: Path) -> None:
    dataset = load_dataset(TASKS[name], "train", glue_dir)
    assert len(dataset) == rows
    assert dataset.source == str(glue_dir / name / "train.parquet")
