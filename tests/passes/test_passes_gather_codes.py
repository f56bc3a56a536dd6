import numpy as np
import pytest

from passes import Change, GatherCodes, InvariantViolated, Skip, embedding_tables
from passes.table_invariants import codes_are_gathered
from tests.passes.sample_graphs import described, model_of, run

BEFORE = """
table (int64[N] ids) => (float[N,2] y)
<int8[3,2] codes = {1, -2, 127, 4, -127, 6}, float[3,1] column = {0.5, 0.25, 2}, float one = {1}> {
  [words__DQ] t = DequantizeLinear(codes, one)
  [words__Gather] rows = Gather(t, ids)
  [words__Gather] scales = Gather(column, ids)
  [words__Mul] y = Mul(rows, scales)
}
"""
EXPECTED = """
table (int64[N] ids) => (float[N,2] y)
<int8[3,2] codes = {1, -2, 127, 4, -127, 6}, float[3,1] column = {0.5, 0.25, 2}> {
  [words__Gather] rows = Gather(codes, ids)
  [words__Cast] rows_floats = Cast<to: int = 1>(rows)
  [words__Gather] scales = Gather(column, ids)
  [words__Mul] y = Mul(rows_floats, scales)
}
"""
IDS = {"ids": np.array([2, 0, 1, 1])}


def test_codes_are_looked_up_before_they_become_floats() -> None:
    model = model_of(BEFORE)
    expected = run(model, IDS)
    result = GatherCodes()(model)
    assert described(model) == described(model_of(EXPECTED))
    assert result.entries == (Change("node_Gather_1", "words", "looks up codes in codes"),)
    np.testing.assert_array_equal(run(model, IDS), expected)


def test_codes_under_another_scale_than_1_are_left_alone() -> None:
    model = model_of(BEFORE.replace("float one = {1}", "float one = {2}"))
    result = GatherCodes()(model)
    assert result.entries == (
        Skip("node_Gather_1", "words", "its codes are multiplied by 2.0, not by 1"),
    )
    assert not result.modified


def test_a_table_made_floats_whole_is_named() -> None:
    with pytest.raises(InvariantViolated) as caught:
        codes_are_gathered.check(model_of(BEFORE))
    assert str(caught.value) == (
        "words (Gather node_Gather_1): expected a look-up of stored codes, found one in the whole "
        "table as floats; run GatherCodes on the graph"
    )


@pytest.mark.parametrize("text", [BEFORE, EXPECTED], ids=["dequantized", "gathered"])
def test_both_forms_read_as_the_same_table(text: str) -> None:
    (table,) = embedding_tables(model_of(text).graph)
    assert (table.module, table.is_integer) == ("words", True)
    np.testing.assert_array_equal(table.stored, [[1, -2], [127, 4], [-127, 6]])
    np.testing.assert_array_equal(table.scale, np.array([0.5, 0.25, 2], np.float32))
    assert table.zero_point == 0


def test_codes_whose_scales_follow_other_indices_have_none() -> None:
    text = EXPECTED.replace("(int64[N] ids)", "(int64[N] ids, int64[N] others)")
    model = model_of(text.replace("Gather(column, ids)", "Gather(column, others)"))
    codes, column = embedding_tables(model.graph)
    assert (codes.scale, codes.is_integer, column.is_integer) == (None, True, False)
