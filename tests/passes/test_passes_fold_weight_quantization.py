import numpy as np
import pytest

from passes import Change, FoldWeightQuantization, InvalidScale, InvariantViolated, RefusedGraph
from passes.numerics import IntegerRange, quantize, symmetric_scales
from tests.passes.sample_graphs import Arrays, described, model_of

BEFORE = """
layer (float[S,4] x) => (float[S,2] y)
<float[2,4] weight = {{1, -2, 3, 127, 0.5, -0.25, 0.125, 63.5}},
 float[2] scale = {{1, 0.5}}, int8[2] zero = {{0, 0}}> {{
  [query__weight_quantizer__Q] q = QuantizeLinear<axis: int = 0>(weight, scale, zero)
  {clip}
  [query__weight_quantizer__DQ] w = DequantizeLinear<axis: int = 0>({codes}, scale, zero)
  [query__Transpose] wt = Transpose<perm = [1, 0]>(w)
  [query__MatMul] y = MatMul(x, wt)
}}
"""
EXPECTED = """
layer (float[S,4] x) => (float[S,2] y)
<float[2] scale = {{1, 0.5}}, int8[2] zero = {{0, 0}}, int8[2,4] weight_int8 = {{{codes}}}> {{
  [query__weight_quantizer__DQ] w = DequantizeLinear<axis: int = 0>(weight_int8, scale, zero)
  [query__Transpose] wt = Transpose<perm = [1, 0]>(w)
  [query__MatMul] y = MatMul(x, wt)
}}
"""
PLAIN = {"clip": "", "codes": "q"}
CLIPPED = {
    "clip": "[query__weight_quantizer__Clip] c = Clip(q, low, high)",
    "codes": "c",
}
BOUNDS = {"low": np.array(-7, np.int8), "high": np.array(7, np.int8)}


def unfilled(text: str) -> str:
    """The graph without its constants, for a test that brings its own."""
    return text[: text.index("<")] + text[text.index("{\n") :]


def test_a_quantized_weight_becomes_stored_integers() -> None:
    model = model_of(BEFORE.format(**PLAIN))
    result = FoldWeightQuantization()(model)
    assert described(model) == described(
        model_of(EXPECTED.format(codes="1, -2, 3, 127, 1, 0, 0, 127"))
    )
    assert result.entries == (
        Change("node_Q_0", "query.weight_quantizer", "weight stored as the integers weight_int8"),
    )


def test_a_clip_of_four_bit_codes_is_stored_clipped() -> None:
    model = model_of(BEFORE.format(**CLIPPED), BOUNDS)
    result = FoldWeightQuantization()(model)
    assert described(model) == described(model_of(EXPECTED.format(codes="1, -2, 3, 7, 1, 0, 0, 7")))
    assert result.entries == (
        Change(
            "node_Clip_1",
            "query.weight_quantizer",
            "folded into the stored integers weight_int8",
        ),
        Change("node_Q_0", "query.weight_quantizer", "weight stored as the integers weight_int8"),
    )


def test_the_stored_integers_are_those_of_the_definition() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    scale = symmetric_scales(weight, IntegerRange(-3, 3), axis=0)
    arrays: Arrays = {"weight": weight, "scale": scale, "zero": np.zeros(2, np.int8)}
    model = model_of(unfilled(BEFORE.format(**PLAIN)), arrays)
    FoldWeightQuantization()(model)
    stored = model.graph.initializers["weight_int8"].const_value
    assert stored is not None
    np.testing.assert_array_equal(stored.numpy(), quantize(weight, scale, axis=0))


def test_a_float_weight_that_something_else_reads_stays_beside_its_integers() -> None:
    text = BEFORE.format(**PLAIN).replace("float[S,2] y", "float[S,2] y, float[2,4] twice")
    text = text.replace("[query__MatMul]", "[other__Add] twice = Add(weight, weight)\n  [q__M]")
    model = model_of(text)
    FoldWeightQuantization()(model)
    assert {"weight", "weight_int8"} <= set(model.graph.initializers)


def test_a_weight_that_is_not_float32_is_refused() -> None:
    half = {"weight": np.ones((2, 4), np.float16), "scale": np.ones(2, np.float16)}
    text = unfilled(BEFORE.format(**PLAIN)).replace("float[S", "float16[S")
    with pytest.raises(RefusedGraph) as error:
        FoldWeightQuantization()(model_of(text, {**half, "zero": np.zeros(2, np.int8)}))
    assert str(error.value) == (
        "query.weight_quantizer (QuantizeLinear node_Q_0): expected a float32 weight, the "
        "precision that quantization is defined in, found float16 in weight; "
        "export the model in float32"
    )


def test_a_computed_clip_bound_is_refused() -> None:
    text = BEFORE.format(clip="low = Identity(high)\n" + CLIPPED["clip"], codes="c")
    with pytest.raises(RefusedGraph) as error:
        FoldWeightQuantization()(model_of(text, {"high": BOUNDS["high"]}))
    assert str(error.value) == (
        "query.weight_quantizer (Clip node_Clip_2): expected constant bounds for the integers of "
        "a weight, found the computed bound low; export the quantizer with fixed limits"
    )


def test_codes_with_a_scale_per_block_are_stored_too() -> None:
    text = """
    layer (float[S,4] x) => (float[S,2] y)
    <float[2,4] weight = {1, -2, 3, 127, 0.5, -0.25, 0.125, 63.5},
     float[2,2] scale = {1, 2, 0.25, 0.5}, int8[2,2] zero = {0, 0, 0, 0}> {
      [query__Q] q = QuantizeLinear<axis: int = 1, block_size: int = 2>(weight, scale, zero)
      [query__DQ] w = DequantizeLinear<axis: int = 1, block_size: int = 2>(q, scale, zero)
      [query__Transpose] wt = Transpose<perm = [1, 0]>(w)
      [query__MatMul] y = MatMul(x, wt)
    }"""
    model = model_of(text)
    FoldWeightQuantization()(model)
    stored = model.graph.initializers["weight_int8"].const_value
    assert stored is not None
    assert stored.numpy().tolist() == [[1, -2, 2, 64], [2, -1, 0, 127]]


def test_a_scale_that_is_not_positive_is_refused_by_the_name_of_its_layer() -> None:
    with pytest.raises(InvalidScale) as error:
        FoldWeightQuantization()(model_of(BEFORE.format(**PLAIN).replace("1, 0.5", "1, 0")))
    assert str(error.value) == (
        "query.weight_quantizer (QuantizeLinear node_Q_0): expected positive finite scales, "
        "found 0.0 at index 1 (1 of 2 invalid); recalibrate; a dead channel takes any positive "
        "scale"
    )


def test_a_weight_with_shifted_zero_point_is_refused() -> None:
    with pytest.raises(InvariantViolated) as error:
        FoldWeightQuantization()(model_of(BEFORE.format(**PLAIN).replace("0, 0}", "0, 3}")))
    assert str(error.value) == (
        "query.weight_quantizer (QuantizeLinear node_Q_0): expected int8 codes with zero-point 0, "
        "found int8 codes with zero-point 0, 3; quantize symmetrically"
    )
