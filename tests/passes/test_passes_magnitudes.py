"""Bounds: what each rule claims, that no run ever breaks one, and what claims nothing."""

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from passes import CanonicalLinear, FoldWeightQuantization, ShareQuantizers
from passes.magnitudes import FLOATS, Magnitudes
from tests.passes.sample_graphs import Writer, encoder, feeds_of, model_of, typed

CONSTANTS = """float two = {2}, float[2] pair = {-3, 1}, float[2] gain = {1, -2},
 float[2] bias = {0.5, 0.25}, float[2,2] w = {3, 0, 4, 1}, float s = {0.5}, int8 z = {0},
 uint8 u = {128}, float zero = {0}, float[2] holed = {0, 4}"""

ROOT2 = math.sqrt(2)


def bound(line: str, *before: str) -> float:
    """What is claimed of y, after the lines given and `n`, a norm of x; `c` is a condition."""
    lines = (
        "n = LayerNormalization(x, gain, bias)",
        "c = IsNaN(x)",
        *before,
        line,
    )
    numbered = "\n".join(f"[a__{index}] {each}" for index, each in enumerate(lines))
    model = typed(
        model_of(f"g (float[B,S,2] x) => (float[B,S,T] y) <{CONSTANTS}> {{\n{numbered}\n}}")
    )
    return Magnitudes(model.graph).largest(model.graph.outputs[0])


NORM = 2 * ROOT2 + 0.25  # |gain| √2 + |bias| of the second channel
LENGTH = 2 * ROOT2 + math.hypot(0.5, 0.25)  # of a whole row

RULES = {
    "y = Identity(n)": NORM,
    "y = Add(n, pair)": NORM + 3,
    "y = Sub(n, n)": 2 * NORM,
    "y = Mul(n, two)": 2 * NORM,
    "y = Div(n, two)": NORM / 2,
    "y = Where(c, n, pair)": max(NORM, 3),
    "y = Gelu(n)": NORM,
    "y = Tanh(n)": 1,
    "y = Softmax(n)": 1,
    # Columns (3, 4) and (0, 1): by the length of the row, 5 × it; by its elements, 7 × NORM.
    "y = MatMul(n, w)": min(5 * LENGTH, 7 * NORM),
}


@pytest.mark.parametrize("line", list(RULES), ids=lambda line: line.split(" = ")[1])
def test_what_a_rule_claims(line: str) -> None:
    assert bound(line) == pytest.approx(RULES[line])


def test_codes_are_at_most_128_steps() -> None:
    assert bound("y = DequantizeLinear(q, s, z)", "q = QuantizeLinear(x, s, z)") == 64


def test_a_product_of_activations_is_held_by_the_lengths_of_rows_and_columns() -> None:
    found = bound("y = MatMul(n, t)", "t = Transpose<perm = [0, 2, 1]>(n)")
    assert found == pytest.approx(LENGTH**2)


def test_shares_of_values_are_no_larger_than_the_values() -> None:
    lines = ("t = Transpose<perm = [0, 2, 1]>(n)", "p = MatMul(n, t)", "m = Softmax(p)")
    assert bound("y = MatMul(m, n)", *lines) == pytest.approx(NORM)


def test_rounding_makes_a_row_longer_by_half_a_step_an_element() -> None:
    lines = ("q = QuantizeLinear(n, s, z)", "d = DequantizeLinear(q, s, z)")
    found = bound("y = MatMul(d, w)", *lines)
    assert found == pytest.approx(5 * (LENGTH + ROOT2 * 0.25))


def test_a_row_is_stretched_by_the_largest_singular_value() -> None:
    lines = ("q = MatMul(n, w)", "b = Add(q, pair)", "t = Transpose<perm = [0, 2, 1]>(b)")
    stretch = np.linalg.norm(np.array([[3, 0], [4, 1]]), 2)
    length = stretch * LENGTH + math.hypot(3, 1)
    assert bound("y = MatMul(b, t)", *lines) == pytest.approx(length**2)


@pytest.mark.parametrize(
    "lines",
    [
        ("y = Identity(x)",),
        ("y = Add(n, x)",),
        ("y = Exp(n)",),
        ("y = Div(n, holed)",),  # by zero
        ("y = Div(two, n)",),
        ("t = Mul(x, zero)", "y = MatMul(t, w)"),  # infinity times zero
        ("q = QuantizeLinear(x, s, u)", "y = DequantizeLinear(q, s, u)"),
        ("g = ReduceMax(n)", "y = LayerNormalization(x, gain, g)"),
        ("y = LayerNormalization<axis: int = 1>(x, gain)",),
    ],
    ids=lambda lines: lines[-1].split(" = ", 1)[1],
)
def test_nothing_is_claimed_of_what_is_not_understood(lines: tuple[str, ...]) -> None:
    assert bound(lines[-1], *lines[:-1]) == math.inf


@pytest.mark.parametrize("line", ["y = Add(n, t)", "y = Where(c, n, t)", "y = Max(n, t)"])
def test_an_operand_of_unknown_type_is_unbounded(line: str) -> None:
    text = f"""g (float[B,S,2] x) => (float[B,S,2] y) <{CONSTANTS}> {{
 [a__0] n = LayerNormalization(x, gain, bias)
 [a__1] c = IsNaN(x)
 [a__2] t = Exp(x)
 [a__3] {line}
}}"""
    model = typed(model_of(text))
    (unknown,) = (node.outputs[0] for node in model.graph if node.op_type == "Exp")
    unknown.type = None
    assert Magnitudes(model.graph).largest(model.graph.outputs[0]) == math.inf


def test_a_value_may_be_set_by_hand() -> None:
    model = typed(model_of("g (float[S] x) => (float[S] y) { [a__Neg] y = Neg(x) }"))
    (value,) = model.graph.outputs
    assert Magnitudes(model.graph).largest(value) == math.inf
    assert Magnitudes(model.graph, instead={value: 7.0}).largest(value) == 7


@pytest.mark.parametrize("placement", ["none", "linear", "attention", "sparse"])
def test_no_value_of_a_run_is_larger_than_its_bound(placement: str) -> None:
    model = encoder(placement, Writer(weights="float" if placement == "none" else "int8"))
    for graph_pass in (FoldWeightQuantization(), CanonicalLinear(), ShareQuantizers()):
        graph_pass(model)
    model = typed(model)
    magnitudes = Magnitudes(model.graph)
    known = {
        str(value.name): magnitudes.largest(value)
        for node in model.graph
        for value in node.outputs
        if value.dtype in FLOATS
    }
    # Rounded shares may add up to more than one, over as many tokens as there are.
    quantized = {"context", "context_rows", "context_flat"}
    unknown = {name for name, largest in known.items() if math.isinf(largest)}
    assert unknown == (quantized if placement in {"attention", "sparse"} else set())
    assert len(known) > 20
    for seed in range(5):
        for name, largest in observed(model, list(known), seed).items():
            assert largest <= known[name] * (1 + 1e-5), name


def observed(model: ir.Model, names: list[str], seed: int) -> dict[str, float]:
    """The largest magnitude of each value in one run, on inputs of very different sizes."""
    proto = ir.to_proto(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {name: value * 10.0 ** (seed - 2) for name, value in feeds_of(model, seed).items()}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    results = session.run(names, feeds)
    return {name: float(np.abs(r).max()) for name, r in zip(names, results, strict=True)}
