import numpy as np
import pytest

from passes import CanonicalLinear, Change, InvariantViolated
from tests.passes.sample_graphs import described, model_of

WEIGHT = "<float[2,3] weight = {1, 2, 3, 4, 5, 6}, float[2] bias = {7, 8}>"
STORED = "<float[2] bias = {7, 8}, float[3,2] weight = {1, 4, 2, 5, 3, 6}>"
SIGNATURE = "layer (float[S,3] x) => (float[S,2] y)"


def test_a_transposed_float_weight_is_stored_the_way_it_is_read() -> None:
    model = model_of(f"""{SIGNATURE} {WEIGHT} {{
      [query__Transpose] wt = Transpose<perm = [1, 0]>(weight)
      [query__MatMul] mm = MatMul(x, wt)
      [query__Add] y = Add(mm, bias)
    }}""")
    result = CanonicalLinear()(model)
    assert described(model) == described(
        model_of(f"""{SIGNATURE} {STORED} {{
      [query__MatMul] mm = MatMul(x, weight)
      [query__Add] y = Add(mm, bias)
    }}""")
    )
    assert result.entries == (
        Change("node_Transpose_0", "query", "weight stored as [3,2], the way it is read"),
    )


def test_stored_integers_are_transposed_and_their_scale_moves_to_the_other_axis() -> None:
    model = model_of(f"""{SIGNATURE}
    <int8[2,3] codes = {{1, 2, 3, 4, 5, 6}}, float[2] scale = {{1, 2}}, int8[2] zero = {{0, 0}}> {{
      [query__weight_quantizer__DQ] w = DequantizeLinear<axis: int = 0>(codes, scale, zero)
      [query__Transpose] wt = Transpose<perm = [1, 0]>(w)
      [query__MatMul] y = MatMul(x, wt)
    }}""")
    CanonicalLinear()(model)
    assert described(model) == described(
        model_of(f"""{SIGNATURE}
    <float[2] scale = {{1, 2}}, int8[2] zero = {{0, 0}}, int8[3,2] codes = {{1, 4, 2, 5, 3, 6}}> {{
      [query__weight_quantizer__DQ] w = DequantizeLinear<axis: int = 1>(codes, scale, zero)
      [query__MatMul] y = MatMul(x, w)
    }}""")
    )


def test_a_weight_read_in_both_orientations_is_stored_in_both() -> None:
    model = model_of(f"""layer (float[S,3] x) => (float[S,2] y, float[2,3] same) {WEIGHT} {{
      [query__Transpose] wt = Transpose<perm = [1, 0]>(weight)
      [query__MatMul] mm = MatMul(x, wt)
      [query__Add] y = Add(mm, bias)
      [other__Abs] same = Abs(weight)
    }}""")
    CanonicalLinear()(model)
    assert set(model.graph.initializers) == {"weight", "weight_transposed", "bias"}


def test_layers_that_share_a_weight_share_the_transposed_one() -> None:
    model = model_of("""tied (float[S,2] x) => (float[S,2] y)
    <float[2,2] weight = {1, 2, 3, 4}> {
      [first__Transpose] first_t = Transpose<perm = [1, 0]>(weight)
      [first__MatMul] mm = MatMul(x, first_t)
      [second__Transpose] second_t = Transpose<perm = [1, 0]>(weight)
      [second__MatMul] y = MatMul(mm, second_t)
    }""")
    CanonicalLinear()(model)
    assert described(model) == described(
        model_of("""tied (float[S,2] x) => (float[S,2] y)
    <float[2,2] weight = {1, 3, 2, 4}> {
      [first__MatMul] mm = MatMul(x, weight)
      [second__MatMul] y = MatMul(mm, weight)
    }""")
    )


def test_a_bias_becomes_the_second_operand() -> None:
    before, expected = (
        model_of(f"""{SIGNATURE} {STORED} {{
      [query__MatMul] mm = MatMul(x, weight)
      [query__Add] y = Add({operands})
    }}""")
        for operands in ("bias, mm", "mm, bias")
    )
    result = CanonicalLinear()(before)
    assert described(before) == described(expected)
    assert result.entries == (Change("node_Add_1", "query", "bias made the second operand"),)


@pytest.mark.parametrize("trans_b", [0, 1])
def test_a_gemm_is_left_as_captured(trans_b: int) -> None:
    weight = np.ones((2, 3) if trans_b else (3, 2), np.float32)
    model = model_of(
        f"""{SIGNATURE} <float[2] bias = {{7, 8}}> {{
      [pooler__Gemm] y = Gemm<transB: int = {trans_b}>(x, weight, bias)
    }}""",
        {"weight": weight},
    )
    assert CanonicalLinear()(model).entries == ()


def test_a_transpose_of_an_activation_is_left_alone() -> None:
    model = model_of("""attention (float[3,S] x, float[T,3] z) => (float[T,S] y) {
      [self__Transpose] t = Transpose<perm = [1, 0]>(x)
      [self__Transpose] u = Transpose<perm = [1, 0]>(t)
      [self__MatMul] y = MatMul(z, u)
    }""")
    assert CanonicalLinear()(model).entries == ()


def test_a_weight_that_the_graph_computes_is_refused() -> None:
    model = model_of(f"""{SIGNATURE} <float[3,2] weight = {{1, 2, 3, 4, 5, 6}}> {{
      [query__Abs] w = Abs(weight)
      [query__MatMul] y = MatMul(x, w)
    }}""")
    with pytest.raises(InvariantViolated) as error:
        CanonicalLinear()(model)
    assert str(error.value) == (
        "query (MatMul node_MatMul_1): expected a linear layer whose stored weight is read "
        "directly and whose bias comes second, found a weight computed by query (Abs node_Abs_0); "
        "run CanonicalLinear on the graph"
    )


def test_a_scaled_gemm_is_refused() -> None:
    model = model_of(f"""{SIGNATURE} {STORED} {{
      [query__Gemm] y = Gemm<alpha: float = 0.5>(x, weight, bias)
    }}""")
    with pytest.raises(InvariantViolated, match=r"comes second, found alpha 0\.5; run Canonical"):
        CanonicalLinear()(model)
