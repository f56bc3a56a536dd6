"""Each statement about a graph of two float types: kept, and broken with its sentence."""

import numpy as np
import onnx_ir as ir
import pytest

from passes import Invariant, InvariantViolated
from passes.float16_invariants import (
    float16_masks_hide,
    float16_values_fit,
    islands_are_float32,
    quantizers_keep_the_numbers_of,
)
from tests.passes.sample_graphs import model_of, typed

GRAPH = """
g (float[B,S,2] x, bool[B,1,S] seen) => (float[B,S,2] y)
<float[2] gain = {{{gain}, 1}}, float[2] bias = {{0, 0}}, float s = {{0.05}}, int8 z = {{0}}> {{
  [norm__LN] n = LayerNormalization(x, gain, bias)
  [norm__Cast] h = Cast<to: int = 10>(n)
  [self__Transpose] k = Transpose<perm = [0, 2, 1]>(h)
  [self__MatMul] scores = MatMul(h, k)
  [mask__Where] mask = Where(seen, none, lowest)
  [self__Add] masked = Add(scores, mask)
  [self__Cast] wide = Cast<to: int = 1>(masked)
  [self__Softmax] shares = Softmax<axis: int = -1>(wide)
  [self__MatMul] mixed = MatMul(shares, n)
  [self__Q] q = QuantizeLinear(mixed, s, z)
  [self__DQ] y = DequantizeLinear(q, s, z)
}}"""


def graph(gain: float = 1, lowest: float = -32768) -> ir.Model:
    halves = {"none": np.float16(0), "lowest": np.float16(lowest)}
    return typed(model_of(GRAPH.format(gain=gain), {k: np.asarray(v) for k, v in halves.items()}))


STATEMENTS = (islands_are_float32, float16_values_fit, float16_masks_hide)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda each: each.name)
def test_a_graph_that_fits_keeps_it(statement: Invariant) -> None:
    statement.check(graph())


def violation(statement: Invariant, model: ir.Model) -> str:
    with pytest.raises(InvariantViolated) as error:
        statement.check(model)
    return str(error.value)


def test_a_product_that_may_overflow_is_named() -> None:
    assert violation(float16_values_fit, graph(gain=200)) == (
        "self (MatMul node_MatMul_3): expected float16 values proved to stay below 60000, "
        "found values that may reach 8e+04; keep the node in float32"
    )


def test_an_infinite_constant_is_named() -> None:
    assert violation(float16_values_fit, graph(lowest=-np.inf)) == (
        "mask (Where node_Where_4): expected float16 values proved to stay below 60000, "
        "found values that may reach inf; keep the node in float32"
    )


def test_scores_that_reach_into_the_mask_are_named() -> None:
    assert violation(float16_masks_hide, graph(gain=100)) == (
        "self (Add node_Add_5): expected a mask added to scores below 16000, "
        "found scores that may reach 2e+04; keep the node in float32"
    )


def test_a_mask_that_is_not_added_is_named() -> None:
    model = graph()
    (add,) = (node for node in model.graph if node.op_type == "Add")
    add.op_type = "Mul"
    assert violation(float16_masks_hide, model) == (
        "self (Mul node_Add_5): expected a mask added to scores below 16000, "
        "found scores that may reach inf; keep the node in float32"
    )


def test_an_island_in_float16_is_named() -> None:
    model = typed(
        model_of("""g (float16[S] x) => (float16[S] y) <int8 z = {0}> {
          [a__Softmax] y = Softmax(x)
        }""")
    )
    assert violation(islands_are_float32, model) == (
        "a (Softmax node_Softmax_0): expected float32 on all sides, found float16 in x, y; "
        "cast to float16 behind the node, and to float32 in front of it"
    )


@pytest.mark.parametrize("name", ["s", "z"])
def test_a_number_of_a_quantizer_that_changes_is_named(name: str) -> None:
    model = graph()
    statement = quantizers_keep_the_numbers_of(model)
    statement.check(model)
    value = model.graph.initializers[name]
    assert value.const_value is not None
    numbers = value.const_value.numpy()
    value.const_value = ir.Tensor(
        np.nextafter(numbers, np.float32(1)) if name == "s" else numbers + 1, name=name
    )
    assert violation(statement, model) == (
        "self (QuantizeLinear node_Q_9): expected the numbers of self (QuantizeLinear node_Q_9) "
        "as they were, found others; leave quantizers and what they read alone"
    )


def test_a_stored_integer_that_changes_is_named() -> None:
    model = typed(
        model_of("""g (float[S,2] x) => (float[S,2] y)
        <int8[2,2] codes = {1, 2, 3, 4}, float[2] s = {1, 2}, int8[2] z = {0, 0}> {
          [a__DQ] w = DequantizeLinear<axis: int = 1>(codes, s, z)
          [a__MatMul] y = MatMul(x, w)
        }""")
    )
    statement = quantizers_keep_the_numbers_of(model)
    changed = np.array([[1, 2], [3, 5]], np.int8)
    model.graph.initializers["codes"].const_value = ir.Tensor(changed, name="codes")
    assert violation(statement, model).startswith("a (DequantizeLinear node_DQ_0): expected the")


def test_a_quantizer_that_is_gone_is_counted() -> None:
    model = graph()
    statement = quantizers_keep_the_numbers_of(model)
    last = model.graph[-1]
    model.graph.outputs[0] = last.inputs[0]  # type: ignore[call-overload]
    model.graph.remove(last)
    assert violation(statement, model) == (
        "quantizers: expected 2 of them, found 1; leave quantizers and what they read alone"
    )
