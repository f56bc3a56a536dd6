import pytest

from passes import Change, InvariantViolated, ShareQuantizers, Skip
from tests.passes.sample_graphs import described, model_of

TWICE = """
shared (float[S] x) => (float[S] a, float[S] b)
<float s1 = {{0.5}}, int8 z1 = {{0}}, float s2 = {{{second}}}, int8 z2 = {{0}}> {{
  [query__input_quantizer__Q] q1 = QuantizeLinear<axis: int = 1>(x, s1, z1)
  [query__input_quantizer__DQ] d1 = DequantizeLinear<axis: int = 1>(q1, s1, z1)
  [key__input_quantizer__Q] q2 = QuantizeLinear<axis: int = 0>(x, s2, z2)
  [key__input_quantizer__DQ] d2 = DequantizeLinear<axis: int = 0>(q2, s2, z2)
  [query__Abs] a = Abs(d1)
  [key__Neg] b = Neg(d2)
}}
"""
ONCE = """
shared (float[S] x) => (float[S] a, float[S] b) <float s1 = {0.5}, int8 z1 = {0}> {
  [query__input_quantizer__Q] q1 = QuantizeLinear<axis: int = 1>(x, s1, z1)
  [query__input_quantizer__DQ] d1 = DequantizeLinear<axis: int = 1>(q1, s1, z1)
  [query__Abs] a = Abs(d1)
  [key__Neg] b = Neg(d1)
}
"""


def test_equal_quantizers_of_one_value_become_one_whatever_holds_their_constants() -> None:
    model = model_of(TWICE.format(second=0.5))
    result = ShareQuantizers()(model)
    assert described(model) == described(model_of(ONCE))
    assert result.entries == (
        Change(
            "node_Q_2",
            "key.input_quantizer",
            "replaced by node_Q_0: same value, scale and zero-point",
        ),
        Change(
            "node_DQ_3",
            "key.input_quantizer",
            "replaced by node_DQ_1: same value, scale and zero-point",
        ),
    )


def test_quantizers_whose_scales_differ_in_the_last_bit_stay_apart() -> None:
    model = model_of(TWICE.format(second="0.50000006"))
    assert ShareQuantizers()(model).entries == ()


def test_a_dequantize_that_comes_before_the_first_one_is_not_overtaken() -> None:
    """The second pair is complete, and read, before the first pair's DequantizeLinear."""
    text = TWICE.format(second=0.5)
    lines = text.splitlines()
    order = [0, 1, 2, 3, 5, 6, 8, 4, 7, 9]
    model = model_of("\n".join(lines[i] for i in order))
    ShareQuantizers()(model)
    assert [node.op_type for node in model.graph] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "Neg",
        "Abs",
    ]


def test_a_graph_output_keeps_its_own_quantizer() -> None:
    text = TWICE.format(second=0.5).replace("float[S] b)", "float[S] b, float[S] d2)")
    result = ShareQuantizers()(model_of(text))
    assert result.entries[1] == Skip(
        "node_DQ_3",
        "key.input_quantizer",
        "its output is a graph output, so it cannot join node_DQ_1",
    )


def test_codes_that_leave_the_graph_are_refused() -> None:
    text = TWICE.format(second=0.5).replace("float[S] b)", "float[S] b, int8[S] q2)")
    with pytest.raises(InvariantViolated) as error:
        ShareQuantizers()(model_of(text))
    assert str(error.value) == (
        "key.input_quantizer (QuantizeLinear node_Q_2): expected codes read by DequantizeLinear "
        "with the same scale, zero-point and axis, found them read by the graph output 'q2'; "
        "keep both nodes of a pair together"
    )
