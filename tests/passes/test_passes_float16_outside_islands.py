"""What becomes float16 and what does not: graphs before and after, refusals, and the numbers."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from passes import (
    CanonicalLinear,
    Change,
    Float16OutsideIslands,
    FoldWeightQuantization,
    InvariantViolated,
    ShareQuantizers,
    Skip,
    lower,
)
from passes.float16_invariants import LARGEST, MASK, SCORES
from tests.passes.sample_graphs import Writer, described, encoder, feeds_of, model_of, run, typed

EMBEDDINGS = """
g (int64[B,S] ids) => (float[B,S,4] y) {constants} {{
  [embeddings__word__Gather] rows = Gather(table, ids)
  [embeddings__Add] sum = Add(rows, shift)
  [embeddings__LN] y = LayerNormalization(sum, gain, bias)
}}"""
EMBEDDINGS_AFTER = """
g (int64[B,S] ids) => (float[B,S,4] y)
<float[4] shift = {1, 2, 3, 4}, float[4] gain = {1, 1, 1, 1}, float[4] bias = {0, 0, 0, 0}> {
  [embeddings__word__Gather] rows = Gather(table_float16, ids)
  [embeddings__word__Cast] rows_float32 = Cast<to: int = 1>(rows)
  [embeddings__Add] sum = Add(rows_float32, shift)
  [embeddings__LN] y = LayerNormalization(sum, gain, bias)
}"""
EMBEDDING_CONSTANTS = """
<float[2,4] table = {{0.5, -1, 2, 3, 4, 5, 6, {last}}}, float[4] shift = {{1, 2, 3, 4}},
 float[4] gain = {{1, 1, 1, 1}}, float[4] bias = {{0, 0, 0, 0}}>"""


def embeddings(last: float = 7) -> ir.Model:
    return typed(model_of(EMBEDDINGS.format(constants=EMBEDDING_CONSTANTS.format(last=last))))


RESIDUAL_CONSTANTS = """
<float[2] gain = {1, 1}, float[2] bias = {0, 0}, float s = {0.5}, int8 z = {0},
 int8[2,2] codes = {1, 2, 3, 4}, float[2] ws = {0.1, 0.2}, int8[2] wz = {0, 0},
 float[2] b = {1, 2}"""
RESIDUAL = f"""
g (float[B,S,2] x) => (float[B,S,2] y) {RESIDUAL_CONSTANTS}> {{
  [norm__LN] n = LayerNormalization(x, gain, bias)
  [norm__q__Q] q = QuantizeLinear(n, s, z)
  [norm__q__DQ] dq = DequantizeLinear(q, s, z)
  [dense__w__DQ] w = DequantizeLinear<axis: int = 1>(codes, ws, wz)
  [dense__MatMul] mm = MatMul(dq, w)
  [dense__Add] out = Add(mm, b)
  [block__Add] sum = Add(out, n)
  [after__LN] y = LayerNormalization(sum, gain, bias)
}}"""
RESIDUAL_AFTER = f"""
g (float[B,S,2] x) => (float[B,S,2] y) {RESIDUAL_CONSTANTS}> {{
  [norm__LN] n = LayerNormalization(x, gain, bias)
  [norm__Cast] n_float16 = Cast<to: int = 10>(n)
  [norm__Cast] n_float16_float32 = Cast<to: int = 1>(n_float16)
  [norm__q__Q] q = QuantizeLinear(n_float16_float32, s, z)
  [norm__q__DQ] dq = DequantizeLinear(q, s, z)
  [dense__w__DQ] w = DequantizeLinear<axis: int = 1>(codes, ws, wz)
  [dense__MatMul] mm = MatMul(dq, w)
  [dense__Add] out = Add(mm, b)
  [dense__Cast] out_float16 = Cast<to: int = 10>(out)
  [block__Add] sum = Add(out_float16, n_float16)
  [block__Cast] sum_float32 = Cast<to: int = 1>(sum)
  [after__LN] y = LayerNormalization(sum_float32, gain, bias)
}}"""

# One head of two channels; `lowest` is what a masked score gets.
ATTENTION = """
g (float[B,S,2] x, bool[B,1,S] seen) => (float[B,S,2] y)
<float[2] gain = {{1, 1}}, float[2] bias = {{0, 0}}, float s = {{0.05}}, int8 z = {{0}},
 float half = {{{scale}}}, float none = {{0}}, float lowest = {{{lowest}}},
 float[2,2] wq = {{{weight}, 0.5, -0.5, 1}}> {{
  [norm__LN] n = LayerNormalization(x, gain, bias)
  [self__query__MatMul] q = MatMul(n, wq)
  [self__Transpose] k = Transpose<perm = [0, 2, 1]>(q)
  [mask__Where] mask = Where(seen, none, lowest)
  [self__MatMul] scores = MatMul(q, k)
  [self__Mul] scaled = Mul(scores, half)
  [self__Add] masked = Add(scaled, mask)
  [self__Softmax] shares = Softmax<axis: int = -1>(masked)
  [self__MatMul] context = MatMul(shares, n)
  [self__out__Q] cq = QuantizeLinear(context, s, z)
  [self__out__DQ] y = DequantizeLinear(cq, s, z)
}}"""


def attention(
    *, weight: float = 1, scale: float = 0.5, lowest: float = float(np.finfo(np.float32).min)
) -> ir.Model:
    return typed(model_of(ATTENTION.format(weight=weight, scale=scale, lowest=lowest)))


def canonical(model: ir.Model) -> ir.Model:
    """As `model.onnx` is when it is read back."""
    for graph_pass in (FoldWeightQuantization(), CanonicalLinear(), ShareQuantizers()):
        graph_pass(model)
    return typed(model)


def types(model: ir.Model) -> dict[str, str]:
    """The float type of every node's output, by its name."""
    named = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16"}
    return {
        str(node.outputs[0].name): named[dtype]
        for node in model.graph
        if (dtype := node.outputs[0].dtype) in named
    }


def skips(model: ir.Model) -> list[str]:
    result = Float16OutsideIslands()(model)
    return [entry.why for entry in result.entries if isinstance(entry, Skip)]


def test_a_table_is_stored_in_float16_and_cast_behind_the_rows() -> None:
    model = embeddings()
    result = Float16OutsideIslands()(model)
    table = np.array([[0.5, -1, 2, 3], [4, 5, 6, 7]], np.float16)
    expected = model_of(EMBEDDINGS_AFTER, {"table_float16": table})
    assert described(model) == described(expected)
    assert result.entries == (
        Change("node_Gather_0", "embeddings.word", "table table stored in float16"),
    )


def test_a_residual_addition_is_float16_and_the_norm_before_it_is_stored_once() -> None:
    model = typed(model_of(RESIDUAL))
    result = Float16OutsideIslands()(model)
    assert described(model) == described(model_of(RESIDUAL_AFTER))
    assert result.entries == (
        # A row of length √2 is √2 + ¼ √2 long when rounded; the second column is 0.894 long. So
        # 1.58, 2 of the bias, and √2 of the norm itself.
        Change("node_Add_6", "block", "in float16, where it stays below 5"),
    )


def test_casts_belong_to_the_module_of_what_they_cast() -> None:
    model = typed(model_of(RESIDUAL))
    Float16OutsideIslands()(model)
    casts = [node for node in model.graph if node.op_type == "Cast"]
    assert [node.metadata_props["nxmi.module"] for node in casts] == [
        "norm",
        "norm",
        "dense",
        "block",
    ]


def test_float_attention_is_float16_around_a_float32_softmax() -> None:
    model = attention()
    Float16OutsideIslands()(model)
    found = types(model)
    for name in ("q", "k", "scores", "scaled", "masked", "context", "mask_float16"):
        assert found[name] == "float16"
    for name in ("n", "shares", "masked_float32", "context_float32", "y"):
        assert found[name] == "float32"
    assert "mask" not in found  # nothing reads the one in float32 any more
    stored = model.graph.initializers
    assert "lowest" not in stored
    assert stored["lowest_float16"].const_value.numpy() == np.float16(MASK)  # type: ignore[union-attr]


def test_quantized_attention_stays_float32_beside_a_mask_that_all_layers_read() -> None:
    model = canonical(encoder("attention"))
    Float16OutsideIslands()(model)
    found = types(model)
    assert [found[name] for name in ("q", "k", "scores", "scaled", "context")] == ["float32"] * 5
    assert found["summed"] == "float16"  # the residual addition


def test_what_lies_between_quantizers_stays_float32() -> None:
    """GELU reads a sum of integers and is quantized at once: no engine stores it."""
    model = canonical(encoder("sparse", Writer(sparse=True)))
    result = Float16OutsideIslands()(model)
    assert not result.modified
    # The last residual addition has no norm behind it in this graph, and leads to the logits.
    assert set(types(model).values()) == {"float32"}


@pytest.mark.parametrize("last", [LARGEST + 1, 1e30, float("inf")])
def test_a_table_that_does_not_fit_stays_float32(last: float) -> None:
    model = embeddings()
    table = model.graph.initializers["table"].const_value
    assert table is not None
    numbers = table.numpy().copy()
    numbers[1, 3] = last
    model.graph.initializers["table"].const_value = ir.Tensor(numbers, name="table")
    result = Float16OutsideIslands()(model)
    assert not result.modified
    assert [str(entry.why) for entry in result.entries if isinstance(entry, Skip)] == [
        f"the table table stays float32: it holds {np.float32(last):.3g}"
    ]


def test_a_region_whose_values_may_overflow_stays_float32() -> None:
    model = attention(weight=3000)
    result = Float16OutsideIslands()(model)
    assert result.entries[0] == Skip(
        "node_MatMul_4", "self", "stays float32: scores may reach 1.8e+07"
    )
    found = types(model)
    assert [found[name] for name in ("q", "k", "mask", "scores", "masked")] == ["float32"] * 5
    assert found["context"] == "float16"  # a region of its own, behind the softmax


def test_scores_that_a_mask_would_not_hide_stay_float32() -> None:
    assert skips(attention(weight=70, scale=2)) == [
        "stays float32: the scores that a mask is added to may reach 1.96e+04"
    ]


def test_a_constant_too_small_for_float16_keeps_its_region_in_float32() -> None:
    assert skips(attention(scale=1e-6)) == ["stays float32: the constant half is 1e-06"]


def test_a_mask_that_fits_is_kept_as_it_is() -> None:
    model = attention(lowest=-10000)
    Float16OutsideIslands()(model)
    lowest = model.graph.initializers["lowest_float16"].const_value
    assert lowest is not None
    assert lowest.numpy() == np.float16(-10000)


def test_what_leads_to_the_logits_stays_float32() -> None:
    model = model_of("""
    g (float[B,S,2] x) => (float[B,2] logits)
    <float[2] gain = {1, 1}, float[2] bias = {0, 0}, float[2,2] w = {1, 2, 3, 4},
     int64 zero = {0}> {
      [norm__LN] n = LayerNormalization(x, gain, bias)
      [pooler__Gather] first = Gather<axis: int = 1>(n, zero)
      [classifier__MatMul] logits = MatMul(first, w)
    }""")
    assert skips(typed(model)) == ["stays float32: it leads to a graph output"]


def test_shifted_codes_are_refused() -> None:
    model = model_of("""g (float[S] x) => (float[S] y) <float s = {0.5}, uint8 z = {128}> {
      [a__Q] q = QuantizeLinear(x, s, z)
      [a__DQ] y = DequantizeLinear(q, s, z)
    }""")
    model = typed(model)
    with pytest.raises(InvariantViolated) as error:
        Float16OutsideIslands()(model)
    assert str(error.value) == (
        "a (QuantizeLinear node_Q_0): expected int8 codes with zero-point 0, "
        "found uint8 codes with zero-point 128; quantize symmetrically"
    )


def test_a_masked_token_has_exactly_no_share() -> None:
    """In float16 as in float32: what a masked token holds decides nothing."""
    model = attention(weight=3)
    Float16OutsideIslands()(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    generator = np.random.default_rng(1)
    x = generator.standard_normal((2, 5, 2)).astype(np.float32)
    seen = np.ones((2, 1, 5), np.bool_)
    seen[0, 0, 3:] = seen[1, 0, 1:] = False
    other = x.copy()
    other[0, 3:] *= -7
    other[1, 1:] += 3
    (one,), (two,) = (run(model, {"x": each, "seen": seen}) for each in (x, other))
    np.testing.assert_array_equal(one[0, :3], two[0, :3])
    np.testing.assert_array_equal(one[1, :1], two[1, :1])


def test_rows_without_any_token_are_still_numbers() -> None:
    model = attention()
    Float16OutsideIslands()(model)
    x = np.random.default_rng(2).standard_normal((1, 4, 2)).astype(np.float32)
    (result,) = run(model, {"x": x, "seen": np.zeros((1, 1, 4), np.bool_)})
    assert np.isfinite(result).all()


@pytest.mark.parametrize("placement", ["none", "linear", "attention"])
def test_logits_stay_near_those_of_float32(placement: str) -> None:
    """Codes may tip by one; on one block of eight channels that moves logits by hundredths."""
    writer = Writer(weights="float" if placement == "none" else "int8")
    model = canonical(encoder(placement, writer))
    feeds = feeds_of(model)
    (expected,) = run(model, feeds)
    lower(model, (Float16OutsideIslands(),), check_each=True, work_dir=None)
    assert "float16" in types(model).values()
    (found,) = run(model, feeds)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * np.abs(expected).max())
    assert (found != expected).any()


def test_the_limits_are_apart_as_the_argument_needs() -> None:
    """Score plus mask fits float16; the largest masked share is zero in float32."""
    assert SCORES - MASK < LARGEST < np.finfo(np.float16).max
    assert np.exp(np.float32(MASK + 2 * SCORES)) == 0
    assert np.float16(MASK) == MASK


def test_a_graph_without_types_is_refused() -> None:
    with pytest.raises(InvariantViolated) as error:
        Float16OutsideIslands()(model_of(RESIDUAL))
    assert str(error.value) == (
        "norm (LayerNormalization node_LN_0): expected a type for n, found none; "
        "infer the shapes of the graph first"
    )
