"""Float attention: one operator where it is what it seems, and a reason where it is not."""

import numpy as np
import onnx_ir as ir
import pytest

from passes import Change, FuseAttention, RefusedGraph, Skip
from tests.passes.sample_graphs import encoder, feeds_of, model_of, run, typed

HEADS = """
attention (float[B, S, 8] x, float[B, M, R, S] mask) => (float[B, S, 8] y)
<int64[4] heads = {0, 0, 2, 4}, int64[3] flat = {0, 0, 8}, float half = {0.5}> {
  [self__R] a = Reshape(x, heads)
  [self__T] q = Transpose<perm = [0,2,1,3]>(a)
  [self__R] b = Reshape(x, heads)
  [self__T] k = Transpose<perm = [0,2,3,1]>(b)
  [self__R] c = Reshape(x, heads)
  [self__T] v = Transpose<perm = [0,2,1,3]>(c)
  [self__M] scores = MatMul(q, k)
  [self__X] scaled = SCALE
  [self__A] masked = Add(scaled, mask)
  [self__Softmax] p = Softmax<axis: int = -1>(masked)
  [self__M] context = MatMul(p, v)
  [self__T] rows = Transpose<perm = [0,2,1,3]>(context)
  [self__R] y = Reshape(rows, flat)
}
"""
MUL = "Mul(scores, half)"


def _model(text: str = HEADS, scale: str = MUL, mask: str = "1, S, S") -> ir.Model:
    shaped = text.replace("SCALE", scale).replace("B, M, R, S] mask", f"B, {mask}] mask")
    return typed(model_of(shaped))


def _feeds(rows: int = 3, tokens: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.where(rng.random((rows, 1, tokens, tokens)) < 0.3, np.float32(-3e38), np.float32(0))
    return {
        "x": rng.standard_normal((rows, tokens, 8)).astype(np.float32),
        "mask": mask.astype(np.float32),
    }


def test_masked_attention_becomes_one_operator_and_keeps_every_bit() -> None:
    model = _model()
    expected = run(model, _feeds())
    (entry,) = FuseAttention()(model).entries
    assert entry == Change("node_Softmax_9", "self", "fused with its products, scale and mask")
    assert [node.op_type for node in model.graph] == ["Attention"]
    assert set(model.graph.initializers) == set()
    (node,) = model.graph
    assert [value.name for value in node.inputs if value] == ["x", "x", "x", "mask"]
    assert node.attributes.get_int("q_num_heads") == 2
    assert node.attributes.get_float("scale") == 0.5
    assert (model.opset_imports[""], model.ir_version) == (23, 11)
    np.testing.assert_array_equal(run(model, _feeds()), expected)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("axis: int = -1", "axis: int = 2"), "the softmax is over axis 2"),
        (("MatMul(p, v)", "MatMul(v, p)"), "the probabilities are not the left operand"),
        (("perm = [0,2,3,1]>(b)", "perm = [0,2,1,3]>(b)"), "a side of a product comes from"),
        (("MatMul(q, k)", "MatMul(k, q)"), "a side of a product comes from Transpose"),
        (("Add(scaled, mask)", "Sub(scaled, mask)"), "the scores come from Sub"),
        (("SCALE", "Pow(scores, half)"), "the scores come from Pow"),
        (("SCALE", "Div(scores, half)"), "the scores come from Div"),  # 1 / x is rounded
        (
            ("y = Reshape(rows, flat)", "y = Reshape(context, flat)"),
            "something else than Transpose reads a part of it",
        ),
    ],
)
def test_what_is_written_otherwise_is_left_alone_with_the_reason(
    change: tuple[str, str], why: str
) -> None:
    model = _model(HEADS.replace(*change))
    nodes = list(model.graph)
    (entry,) = FuseAttention()(model).entries
    assert isinstance(entry, Skip)
    assert entry.why.startswith(why)
    assert (list(model.graph), model.opset_imports[""]) == (nodes, 20)


@pytest.mark.parametrize(
    ("change", "interface"),
    [
        (("[0,2,1,3]>(context)", "[0,2,1,3]>(context)"), ("float[B, S, 8] y", "float[N, 8] y")),
        (("c = Reshape(x, heads)", "c = Reshape(x, split)"), ("float half", "float half")),
    ],
    ids=["joined to rows of all texts", "values split across the sequence"],
)
def test_other_axes_than_batch_and_sequence_are_left_alone(
    change: tuple[str, str], interface: tuple[str, str]
) -> None:
    text = HEADS.replace(*change).replace(*interface)
    if interface[1] == "float[N, 8] y":
        text = text.replace("int64[3] flat = {0, 0, 8}", "int64[2] flat = {-1, 8}")
    text = text.replace("float half", "int64[4] split = {1, -1, 2, 4}, float half")
    (entry,) = FuseAttention()(_model(text)).entries
    assert isinstance(entry, Skip)
    assert entry.why == ("heads are not split from batch, sequence and channels and joined to them")


def test_a_mask_without_a_row_for_every_query_is_left_alone() -> None:
    (entry,) = FuseAttention()(_model(mask="1, 1, S")).entries
    assert isinstance(entry, Skip)
    assert entry.why == "the mask is not one of four axes with a row for every query"


def test_scores_that_something_else_reads_are_left_alone() -> None:
    text = HEADS.replace("(float[B, S, 8] y)", "(float[B, S, 8] y, float[B, 2, S, S] scaled)")
    (entry,) = FuseAttention()(_model(text)).entries
    assert isinstance(entry, Skip)
    assert entry.why == "something else than Add reads a part of it"


@pytest.mark.parametrize("placement", ["attention", "sparse"])
def test_quantized_attention_is_left_alone(placement: str) -> None:
    (entry,) = FuseAttention()(typed(encoder(placement))).entries
    assert isinstance(entry, Skip)
    assert entry.why == "QuantizeLinear reads a part of it"


def test_a_graph_of_an_older_opset_is_refused() -> None:
    model = _model()
    model.opset_imports[""] = 17
    with pytest.raises(RefusedGraph) as refusal:
        FuseAttention()(model)
    assert refusal.value.found == "opset 17"


def test_the_encoder_keeps_every_bit() -> None:
    model = typed(encoder("linear"))
    feeds = feeds_of(model)
    expected = run(model, feeds)
    assert FuseAttention()(model).modified
    np.testing.assert_array_equal(run(model, feeds)[0], expected[0])
