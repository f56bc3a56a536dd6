import numpy as np
import pytest

from nxmi_export.glue import TASKS, Dataset

ROWS = 4


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(
        TASKS["rte"],
        "validation",
        texts=(("a", "b", "c", "d"), ("A", "B", "C", "D")),
        labels=np.array([0, 1, 1, 0]),
        ids=np.array([10, 11, 12, 13]),
        source="dev.tsv",
        sha256="00",
    )


def test_length_is_the_number_of_rows(dataset: Dataset) -> None:
    assert len(dataset) == ROWS


def test_selection_keeps_the_order_asked_for_in_every_column(dataset: Dataset) -> None:
    chosen = dataset.select([3, 1])
    assert chosen.texts == (("d", "b"), ("D", "B"))
    assert chosen.labels.tolist() == [0, 1]
    assert chosen.ids.tolist() == [13, 11]
    assert chosen.source == "dev.tsv"


def test_selection_of_a_row_that_is_not_there_is_an_index_error(dataset: Dataset) -> None:
    with pytest.raises(IndexError):
        dataset.select([ROWS])


def test_selection_of_nothing_is_an_empty_dataset(dataset: Dataset) -> None:
    assert len(dataset.select([])) == 0


def test_head_is_the_first_rows(dataset: Dataset) -> None:
    assert dataset.head(2).texts == (("a", "b"), ("A", "B"))


def test_head_beyond_the_end_is_everything(dataset: Dataset) -> None:
    assert dataset.head(100).ids.tolist() == [10, 11, 12, 13]


def test_labels_and_ids_cannot_be_written_to(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="read-only"):
        dataset.labels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        dataset.ids[0] = 1
