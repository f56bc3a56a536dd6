"""Which linear layers run for every token: those of flattened graphs too, but no pooler or head."""

from typing import Any

import numpy as np
import pytest

from passes.lint import lint
from tests.passes.sample_graphs import model_of

WIDTH = 64
CODES = np.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH).astype(np.int8)
CONSTANTS: dict[str, Any] = {
    "codes": CODES,
    "steps": np.full(WIDTH, 0.01, np.float32),
    "floats": CODES.astype(np.float32),
    "bias": np.zeros(WIDTH, np.float32),
    "step": np.float32(0.1),
    "zero": np.int8(0),
    "triple": np.ones((WIDTH, 3 * WIDTH), np.float32),
    "table": np.ones((9, WIDTH), np.float32),
    "flat": np.array([-1, WIDTH]),
    "packed": np.array([-1, 3, WIDTH]),
    "first": np.int64(0),
    "one": np.array([1]),
    "start": np.array([0]),
    "last": np.array([-1]),
    "end": np.array([2**62]),
    "middle": np.array([1]),
}


def rules(steps: str, *, tokens: str = "T") -> set[str]:
    """What is found in an INT8 layer, whose result is `h` (B, T, 64), and what `steps` make of it.

    They end in `r`, which a float layer multiplies.
    """
    text = f"""g (float[B,{tokens},{WIDTH}] x, float[B,{tokens}] mask) => (float[] y) {{
      q = QuantizeLinear(x, step, zero)
      d = DequantizeLinear(q, step, zero)
      w = DequantizeLinear <axis: int = 1> (codes, steps)
      int8 = MatMul(d, w)
      h = Relu(int8)
      {steps}
      y = MatMul(r, floats)
    }}"""
    return {finding.rule for finding in lint(model_of(text, CONSTANTS))}


TOKENS = {
    "as they are": "r = Relu(h)",
    "flattened": "r = Reshape(h, flat)",
    "of a packed projection": """
      wide = MatMul(h, triple)
      parts = Reshape(wide, packed)
      r = Gather <axis: int = 1> (parts, first)""",
    "of a packed projection, sliced": """
      wide = MatMul(h, triple)
      parts = Reshape(wide, packed)
      part = Slice(parts, start, middle, middle)
      r = Squeeze(part, one)""",
    "beside the first of them": """
      token = Slice(h, start, middle, middle)
      r = Add(h, token)""",
    "each the first of them": """
      token = Slice(h, start, middle, middle)
      sides = Shape(h)
      r = Expand(token, sides)""",
    "centred, as a norm is written out": """
      mean = ReduceMean(h, last)
      r = Sub(h, mean)""",
    "all but the first": "r = Slice(h, middle, end, middle)",
}
SEQUENCES = {
    "the first token": "r = Gather <axis: int = 1> (h, first)",
    "the first token, sliced": "r = Slice(h, start, middle, middle)",
    "the last token, sliced": "r = Slice(h, last, end, middle)",
    "the first token, then a layer": """
      token = Gather <axis: int = 1> (h, first)
      pooled = Gemm(token, floats, bias)
      r = Tanh(pooled)""",
    "the first token, rounded": """
      token = Gather <axis: int = 1> (h, first)
      r = Cast <to: int = 1> (token)""",
    "the mean": "r = ReduceMean <keepdims: int = 0> (h, middle)",
    "the mean of what a mask leaves": """
      ones = Unsqueeze(mask, last)
      kept = Mul(h, ones)
      sum = ReduceSum <keepdims: int = 0> (kept, middle)
      count = ReduceSum(mask, middle)
      r = Div(sum, count)""",
    "a constant table": "r = Relu(table)",
}


@pytest.mark.parametrize("tokens", ["T", "32"])
@pytest.mark.parametrize("steps", TOKENS.values(), ids=TOKENS)
def test_a_float_layer_over_tokens_is_found(steps: str, tokens: str) -> None:
    assert rules(steps, tokens=tokens) == {"float-layer"}


@pytest.mark.parametrize("tokens", ["T", "32"])
@pytest.mark.parametrize("steps", SEQUENCES.values(), ids=SEQUENCES)
def test_a_float_layer_over_sequences_is_not(steps: str, tokens: str) -> None:
    assert rules(steps, tokens=tokens) == set()


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize(
    ("operands", "rule"),
    [("rows, w", "float-input"), ("d, floats", "float-weight"), ("rows, floats", "float-layer")],
)
def test_flattened_layers_are_held_to_every_rule(kind: str, operands: str, rule: str) -> None:
    text = f"""g (float[B,T,{WIDTH}] x) => (float[M,{WIDTH}] y) {{
      rows = Reshape(x, flat)
      q = QuantizeLinear(rows, step, zero)
      d = DequantizeLinear(q, step, zero)
      w = DequantizeLinear <axis: int = 1> (codes, steps)
      int8 = {kind}(d, w)
      other = {kind}({operands})
      y = Sub(int8, other)
    }}"""
    assert {each.rule for each in lint(model_of(text, CONSTANTS))} == {rule}
