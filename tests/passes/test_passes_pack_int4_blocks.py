"""INT4 blocks: what becomes of a layer, to the bit, and every reason not to touch it."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from passes import Change, InvariantViolated, PackInt4Blocks, RefusedGraph, Skip
from passes.block_invariants import expected_layers_are_int4_blocks
from tests.passes.sample_graphs import Arrays, described, model_of, run

BEFORE = """
layer (float[S,4] x) => (float[S,2] y) {
  [query__DQ] w = DequantizeLinear<axis: int = 1>(codes, scale, zero)
  [query__MatMul] y = MatMul(x, w)
}
"""
AFTER = """
layer (float[S,4] x) => (float[S,2] y) {
  [query__DQ] w = DequantizeLinear<axis: int = 0, block_size: int = 2>(codes_int4, scale_blocks)
  [query__MatMul] y = MatMul(x, w)
}
"""
CODES = np.array([[1, -7], [0, 7], [-8, 2], [3, 0]], np.int8)
NUMBERS: Arrays = {
    "codes": CODES,
    "scale": np.array([0.5, 0.3], np.float32),
    "zero": np.zeros(2, np.int8),
}


def packed(text: str = BEFORE, arrays: Arrays = NUMBERS, block: int = 2) -> ir.Model:
    model = model_of(text, arrays)
    PackInt4Blocks(["query"], block)(model)
    return model


def refusal(text: str = BEFORE, arrays: Arrays = NUMBERS, block: int = 2) -> str:
    with pytest.raises(RefusedGraph) as error:
        packed(text, arrays, block)
    return str(error.value)


def test_codes_are_packed_and_the_scale_of_a_channel_repeated_for_its_blocks() -> None:
    expected = model_of(
        AFTER,
        {
            "codes_int4": CODES.astype(ml_dtypes.int4),
            "scale_blocks": np.array([[0.5, 0.3], [0.5, 0.3]], np.float32),
        },
    )
    model = packed()
    assert described(model) == described(expected)
    assert (model.opset_imports[""], model.ir_version) == (21, 10)


def test_two_codes_take_a_byte() -> None:
    codes = packed().graph.initializers["codes_int4"].const_value
    assert codes is not None
    assert (codes.nbytes, len(codes.tobytes())) == (4, 4)


@pytest.mark.parametrize("block", [1, 2, 4])
def test_no_bit_of_the_product_changes(block: int) -> None:
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    (expected,) = run(model_of(BEFORE, NUMBERS), feeds)
    (found,) = run(packed(block=block), feeds)
    np.testing.assert_array_equal(found, expected)


def test_larger_blocks_are_cut_into_smaller_ones_exactly() -> None:
    text = BEFORE.replace("axis: int = 1", "axis: int = 0, block_size: int = 2")
    arrays = NUMBERS | {
        "scale": np.array([[0.5, 0.3], [0.25, 0.1]], np.float32),
        "zero": np.zeros((2, 2), np.int8),
    }
    declared = model_of(text, arrays)
    declared.opset_imports[""] = 21
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    (expected,) = run(declared, feeds)
    np.testing.assert_array_equal(run(packed(text, arrays, block=1), feeds)[0], expected)
    assert refusal(text, arrays, block=4) == (
        "INT4 blocks of query: expected a scale per channel, or per block of a multiple of 4 "
        "inputs, found one per block of 2; ask for blocks of 2"
    )


def test_the_ledger_names_what_was_packed_and_what_was_not() -> None:
    model = model_of(BEFORE, NUMBERS)
    assert PackInt4Blocks([], 2)(model).entries == (
        Skip("node_MatMul_1", "query", "not expected to be INT4"),
    )
    assert PackInt4Blocks(["query"], 2)(model).entries == (
        Change("node_MatMul_1", "query", "codes_int4 stored as INT4 in blocks of 2 inputs"),
    )
    assert PackInt4Blocks(["query"], 2)(model).entries == (
        Skip("node_MatMul_1", "query", "already INT4 in blocks of 2"),
    )


def test_quantized_data_is_refused() -> None:
    text = """
    layer (float[S,4] x) => (float[S,2] y) <float s = {0.1}, int8 z = {0}> {
      [query__Q] q = QuantizeLinear(x, s, z)
      [query__XDQ] d = DequantizeLinear(q, s, z)
      [query__DQ] w = DequantizeLinear<axis: int = 1>(codes, scale, zero)
      [query__MatMul] y = MatMul(d, w)
    }"""
    assert refusal(text) == (
        "INT4 blocks of query: expected a float input, found a quantized one; write placement: "
        "weights in the recipe, or export without INT4 blocks"
    )


def test_a_width_that_blocks_do_not_divide_is_refused() -> None:
    assert refusal(block=3) == (
        "INT4 blocks of query: expected a number of inputs that is a multiple of 3, found 4; "
        "choose smaller blocks, or give the layer another scheme under overrides in the recipe"
    )


def test_codes_that_four_bits_do_not_hold_are_refused() -> None:
    assert refusal(arrays=NUMBERS | {"codes": CODES * 2}) == (
        "INT4 blocks of query: expected codes from -8 to 7, which four bits hold, found codes "
        "from -16 to 14; give the layer an int4 scheme in the recipe"
    )


def test_a_shifted_zero_point_is_refused() -> None:
    assert refusal(arrays=NUMBERS | {"zero": np.array([0, 1], np.int8)}) == (
        "INT4 blocks of query: expected a zero-point of 0, found another one; quantize "
        "symmetrically"
    )


def test_a_computed_zero_point_is_not_called_another_one() -> None:
    text = """
    layer (float[S,4] x) => (float[S,2] y) {
      [query__Neg] computed = Neg(zero)
      [query__DQ] w = DequantizeLinear<axis: int = 1>(codes, scale, computed)
      [query__MatMul] y = MatMul(x, w)
    }"""
    assert refusal(text) == (
        "INT4 blocks of query: expected a zero-point of 0, found one that the graph computes; "
        "quantize symmetrically"
    )


def test_floats_are_refused() -> None:
    text = "layer (float[S,4] x) => (float[S,2] y) {[query__MatMul] y = MatMul(x, codes)}"
    assert refusal(text, {"codes": CODES.astype(np.float32)}) == (
        "INT4 blocks of query: expected stored codes with constant scales, found floats; give the "
        "layer an int4 scheme in the recipe"
    )


def test_a_graph_that_means_something_else_in_opset_21_is_refused() -> None:
    model = model_of(BEFORE, NUMBERS)
    model.opset_imports[""] = 19
    with pytest.raises(RefusedGraph) as error:
        PackInt4Blocks(["query"], 2)(model)
    assert str(error.value) == (
        "INT4: expected a graph of ONNX opset 21, or one that means the same in it, found opset "
        "19; capture the model again"
    )


def test_a_module_that_is_missing_or_stored_otherwise_breaks_the_promise() -> None:
    promise = expected_layers_are_int4_blocks(["query"], 2)
    promise.check(packed())
    with pytest.raises(InvariantViolated, match=r"query: expected INT4 codes .* found int8 values"):
        promise.check(model_of(BEFORE, NUMBERS))
    with pytest.raises(InvariantViolated, match=r"found blocks of 1 along axis 0"):
        promise.check(packed(block=1))
    with pytest.raises(InvariantViolated, match="found no linear layer of that module"):
        expected_layers_are_int4_blocks(["key"], 2).check(packed())
