"""What the linter reads beyond the file: bodies of local functions, shapes left unrecorded."""

import logging

import onnx
import onnx_ir as ir
import pytest

from passes.lint import lint
from passes.lint.unfold import unfold
from samples.bad_graphs import BAD_GRAPHS
from tests.passes.sample_graphs import serialized


def called(call: str, body: str, inputs: str = "x", opset: int = 20) -> ir.Model:
    text = f"""<ir_version: 9, opset_import: ["": 20, "local": 1]>
    g (float[B,T,64] x) => (float[B,T,64] y) {{ y = {call} }}
    <opset_import: ["": {opset}, "local": 1], domain: "local">
    f ({inputs}) => (y) {{ {body} }}"""
    return ir.from_proto(onnx.parser.parse_model(text))


ROUNDED = "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)"


@pytest.mark.parametrize("opset", [18, 20])
def test_the_body_of_a_function_is_read(opset: int) -> None:
    model = called("local.f(x)", ROUNDED, opset=opset)
    before = serialized(model)
    assert [each.rule for each in lint(model)] == ["integer-operator"]
    assert serialized(model) == before


def test_a_function_is_read_at_every_call() -> None:
    model = called("local.f(x) z = local.f(x)", ROUNDED)
    assert len({each.node for each in lint(model)}) == 2


@pytest.mark.parametrize(
    ("call", "body", "inputs"),
    [
        ("local.f(x, x)", "y = Relu(x)", "x"),
        ("local.f(x)", "y = Add(x, w)", "x, w"),
        ("local.f(x)", "r = local.f(x) y = Relu(r)", "x"),
    ],
    ids=["too many inputs", "too few", "a call of itself"],
)
def test_a_body_that_cannot_be_read_is_said_to_be_so(call: str, body: str, inputs: str) -> None:
    (finding,) = lint(called(call, body, inputs))
    assert finding.rule == "unread-function"
    assert finding.found == "a call of local.f whose body was not read"


def test_a_function_with_a_graph_for_an_attribute_is_not_read() -> None:
    model = called("local.f(x)", "y = Relu(x)")
    branch = ir.Graph([], [], nodes=[], name="branch")
    next(iter(model.graph)).attributes["branch"] = ir.AttrGraph("branch", branch)
    assert [each.rule for each in lint(model)] == ["unread-function"]


def test_what_cannot_be_inferred_is_read_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    model = called("Add(x, x)", "y = Relu(x)")
    model.graph.inputs[0].shape = None
    with caplog.at_level(logging.WARNING):
        assert lint(model) == ()
    assert caplog.records == []


@pytest.mark.parametrize("channels", [8, 128])
def test_heads_are_measured_where_no_shapes_are_recorded(good: ir.Model, channels: int) -> None:
    name = f"attention-head-size ({channels} channels)"
    next(bad for bad in BAD_GRAPHS if bad.name == name).mutate(good)
    _forget_shapes(good)
    (finding,) = lint(good)
    assert finding.found == f"INT8 attention with heads of {channels} channels"


def test_the_good_graph_is_good_without_recorded_shapes(good: ir.Model) -> None:
    _forget_shapes(good)
    assert lint(good) == ()
    scores = next(node for node in good.graph if node.op_type == "Softmax").outputs[0]
    assert scores.shape is None
    copied = next(node for node in unfold(good).graph if node.op_type == "Softmax").outputs[0]
    assert copied.shape is not None


def _forget_shapes(model: ir.Model) -> None:
    for value in (value for node in model.graph for value in node.outputs):
        if not value.is_graph_output():
            value.shape = value.type = None
