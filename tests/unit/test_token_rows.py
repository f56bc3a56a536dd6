"""Ids of many examples in one array: taken apart, picked from, and never inconsistent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxmi_export.encoding import EncodedDataset, TokenRows
from tests.tiny_models import toy_dataset

NAMES = ("input_ids", "attention_mask")
LENGTHS = st.lists(st.integers(0, 9), max_size=12)


def rows_of(lengths: list[int]) -> TokenRows:
    rows = (
        {"input_ids": np.full(n, i), "attention_mask": np.ones(n)} for i, n in enumerate(lengths)
    )
    return TokenRows.of(rows, NAMES)


@given(lengths=LENGTHS)
def test_rows_come_back_as_they_were_put_together(lengths: list[int]) -> None:
    rows = rows_of(lengths)
    assert rows.lengths.tolist() == lengths
    assert [row["input_ids"].tolist() for row in rows] == [[i] * n for i, n in enumerate(lengths)]
    assert all(array.dtype == np.int64 for row in rows for array in row.values())


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12), data=st.data())
def test_a_selection_has_the_rows_asked_for_in_their_order(
    lengths: list[int], data: st.DataObject
) -> None:
    rows = rows_of(lengths)
    indices = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9))
    selected = rows.select(np.array(indices, np.int64))
    assert [row["input_ids"].tolist() for row in selected] == [[i] * lengths[i] for i in indices]
    assert [row["input_ids"].tolist() for row in rows[1:]] == [
        [i] * n for i, n in enumerate(lengths) if i
    ]


def test_places_count_from_the_end_too_and_end_somewhere() -> None:
    rows = rows_of([1, 2])
    assert rows[-1]["input_ids"].tolist() == [1, 1]
    with pytest.raises(IndexError):
        rows[2]


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ([1, 3], "do not start at 0"),
        ([], "do not start at 0"),
        ([0, 3, 2, 3], "do not start at 0"),
        ([0, 2], "end at 2, their ids at"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(starts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenRows({"input_ids": np.zeros(3, np.int32)}, np.array(starts, np.int64))


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), tokens=st.integers(1, 200))
def test_batches_by_tokens_cover_every_example_and_are_full(
    lengths: list[int], tokens: int
) -> None:
    dataset = toy_dataset(len(lengths))
    data = EncodedDataset(dataset, rows_of(lengths), dict.fromkeys(NAMES, 0))
    batches = data.bucketed(tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, length in zip(batches, longest, strict=True):
        assert len(batch) == 1 or len(batch) * length <= tokens
    for batch, length in zip(batches[:-1], longest[:-1], strict=True):
        assert (len(batch) + 1) * length > tokens  # one more would have been too much


def test_an_example_above_the_budget_runs_alone() -> None:
    data = EncodedDataset(toy_dataset(3), rows_of([9, 2, 2]), dict.fromkeys(NAMES, 0))
    assert [batch.tolist() for batch in data.bucketed(4)] == [[0], [2, 1]]
