import numpy as np
import onnx_ir as ir
import pytest

from passes import (
    Change,
    InvariantViolated,
    ScaleGatheredRows,
    Skip,
    embedding_tables,
)
from passes.table_invariants import only_gathered_rows_are_scaled
from tests.passes.sample_graphs import described, model_of, run

CONSTANTS = """
<int8[3,2] codes = {1, -2, 127, 4, -127, 6}, float[3] scale = {0.5, 0.25, 2}>"""
BEFORE = f"""
table (int64[N] ids) => (float[N,2] y) {CONSTANTS} {{
  [words__DQ] t = DequantizeLinear<axis: int = 0>(codes, scale)
  [words__Gather] rows = Gather(t, ids)
  [net__Relu] y = Relu(rows)
}}
"""
EXPECTED = """
table (int64[N] ids) => (float[N,2] y)
<int8[3,2] codes = {1, -2, 127, 4, -127, 6}, float[3,1] scale_column = {0.5, 0.25, 2},
 float codes_one = {1}> {
  [words__DQ] node_Gather_1_codes = DequantizeLinear(codes, codes_one)
  [words__Gather] rows = Gather(node_Gather_1_codes, ids)
  [words__Gather] node_Gather_1_scales = Gather(scale_column, ids)
  [words__Mul] node_Gather_1_scaled = Mul(rows, node_Gather_1_scales)
  [net__Relu] y = Relu(node_Gather_1_scaled)
}
"""
IDS = {"ids": np.array([2, 0, 1, 1])}


def _skips(text: str) -> tuple[object, ...]:
    model = model_of(text)
    result = ScaleGatheredRows()(model)
    assert not result.modified
    return result.entries


def test_rows_are_scaled_behind_their_look_up() -> None:
    model = model_of(BEFORE)
    expected = run(model, IDS)
    result = ScaleGatheredRows()(model)
    assert described(model) == described(model_of(EXPECTED))
    assert result.entries == (
        Change("node_Gather_1", "words", "3 scales put behind it, for the rows it looks up"),
    )
    np.testing.assert_array_equal(run(model, IDS), expected)


def test_no_bit_changes_whatever_the_scale() -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "codes": generator.integers(-127, 128, (64, 16), dtype=np.int8),
        "scale": np.exp(generator.uniform(-30, 5, 64)).astype(np.float32),
    }
    model = model_of(BEFORE.replace(CONSTANTS, "").replace("float[N,2]", "float[N,16]"), arrays)
    ids = {"ids": np.arange(64)}
    (expected,) = run(model, ids)
    assert ScaleGatheredRows()(model).modified
    np.testing.assert_array_equal(run(model, ids)[0], expected)


def test_a_table_of_one_row_has_a_scale_of_its_row() -> None:
    constants = "<int8[1,2] codes = {1, -2}, float[1] scale = {0.5}>"
    model = model_of(BEFORE.replace(CONSTANTS, constants))
    assert ScaleGatheredRows()(model).modified
    (table,) = embedding_tables(model.graph)
    np.testing.assert_array_equal(table.scale, np.array([0.5], np.float32))


def test_the_table_that_something_else_reads_stays_for_it() -> None:
    model = model_of(
        BEFORE.replace("[net__Relu] y", "[head__Sum] z = ReduceSum(t)\n  [net__Relu] r").replace(
            "Relu(rows)\n", "Relu(rows)\n  [net__Add] y = Add(r, z)\n"
        )
    )
    expected = run(model, IDS)
    assert ScaleGatheredRows()(model).modified
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("DequantizeLinear") == 2
    np.testing.assert_array_equal(run(model, IDS), expected)


def test_one_scale_for_the_table_is_left_alone() -> None:
    text = BEFORE.replace("float[3] scale = {0.5, 0.25, 2}", "float scale = {0.5}")
    assert _skips(text.replace("<axis: int = 0>", "")) == (
        Skip("node_Gather_1", "words", "its scale is one for the whole table"),
    )


def test_scales_per_column_are_left_alone() -> None:
    text = BEFORE.replace("float[3] scale = {0.5, 0.25, 2}", "float[2] scale = {0.5, 0.25}")
    assert _skips(text.replace("axis: int = 0", "axis: int = 1")) == (
        Skip("node_Gather_1", "words", "its scale is one per column"),
    )


def test_codes_around_another_zero_point_are_refused_by_the_invariant() -> None:
    text = BEFORE.replace("float[3] scale", "int8[3] zero = {1, 0, 0}, float[3] scale")
    with pytest.raises(ir.passes.PostconditionError, match="found a scale per row"):
        ScaleGatheredRows()(model_of(text.replace("(codes, scale)", "(codes, scale, zero)")))


def test_a_table_of_floats_is_no_match() -> None:
    text = BEFORE.replace("[words__DQ] t = DequantizeLinear<axis: int = 0>(codes, scale)", "")
    constants = "<float[3,2] t = {1, -2, 127, 4, -127, 6}>"
    assert _skips(text.replace(CONSTANTS, constants)) == ()


def test_a_table_of_scaled_rows_is_named() -> None:
    with pytest.raises(InvariantViolated) as caught:
        only_gathered_rows_are_scaled.check(model_of(BEFORE))
    assert str(caught.value) == (
        "words (Gather node_Gather_1): expected scales that multiply the rows it looked up, found "
        "a scale per row that multiplies the whole table; run ScaleGatheredRows on the graph"
    )


def test_a_look_up_that_is_an_output_is_refused_by_the_invariant() -> None:
    text = BEFORE.replace("rows = Gather", "y = Gather").replace("[net__Relu] y = Relu(rows)", "")
    model = model_of(text)
    with pytest.raises(ir.passes.PostconditionError, match="found a scale per row"):
        ScaleGatheredRows()(model)
