"""How many tokens a table of positions is for, whichever way its rows are chosen."""

import numpy as np
import onnx_ir as ir
import pytest

from nxmi_export.workflow.read_graph import position_limit
from passes.lint import lint
from tests.passes.sample_graphs import model_of

CONSTANTS = {
    "words": np.zeros((100, 8), np.float32),
    "table": np.zeros((514, 8), np.float32),
    "batched": np.zeros((1, 514, 8), np.float32),
    "codes": np.zeros((514, 8), np.int8),
    "scale": np.float32(0.1),
    "mask_of_scores": np.zeros((1, 1, 514, 514), np.float32),
    "stored": np.arange(514)[None],
    "stored_from_2": np.arange(2, 516)[None],
    "few": np.arange(40)[None],
    "types": np.zeros((1, 514), np.int64),
    "two_types": np.repeat([[0, 1]], [300, 214], axis=1),
    "two_rows": np.zeros((2, 8), np.float32),
    "one_row": np.zeros((1, 8), np.float32),
    "axis": np.int32(1),
    "rank_1": np.array([1]),
    "zero": np.array([0]),
    "first": np.int64(0),
    "step": np.int64(1),
    "pad": np.array([1]),
    "two": np.array([2]),
}
COUNTED = """
  at_pad = Equal(ids, pad)
  is_text = Not(at_pad)
  mask = Cast <to: int = 6> (is_text)
  counted = CumSum(mask, axis)
  masked = Mul(counted, mask)
  count = Cast <to: int = 7> (masked)"""
TYPES = f"""{COUNTED}
  at = Add(count, pad)
  shape = Shape(ids)
  all = Expand(types, shape)"""
LIMITS = {
    "counted from 1 behind the padding's id, as RoBERTa does": (
        f"{COUNTED} at = Add(count, pad) r = Gather(table, at)",
        512,
    ),
    "the padding's id first": (f"{COUNTED} at = Add(pad, count) r = Gather(table, at)", 512),
    "counted from 1": (f"{COUNTED} r = Gather(table, count)", 513),
    "counted from 0": (f"{COUNTED} at = Sub(count, pad) r = Gather(table, at)", 514),
    "the tokens before alone": (
        "mask = Cast <to: int = 6> (ids) c = CumSum <exclusive: int = 1> (mask, axis) "
        "r = Gather(table, c)",
        514,
    ),
    "a range": ("c = Range(first, length, step) r = Gather(table, c)", 514),
    "a range behind two": (
        "c = Range(first, length, step) d = Unsqueeze(c, zero) at = Add(d, two) "
        "r = Gather(table, at)",
        512,
    ),
    "stored ids": ("at = Slice(stored, zero, end, rank_1) r = Gather(table, at)", 514),
    "stored ids from two": (
        "at = Slice(stored_from_2, zero, end, rank_1) r = Gather(table, at)",
        512,
    ),
    "fewer stored ids": ("at = Slice(few, zero, end, rank_1) r = Gather(table, at)", 40),
    "stored ids looked up by position, as RoBERTa's of token types are": (
        f"{TYPES} of = GatherElements <axis: int = 1> (all, at) r = Gather(two_rows, of)",
        512,
    ),
    "stored ids of which some lie behind the table": (
        f"{COUNTED} of = GatherElements <axis: int = 1> (two_types, count) r = Gather(one_row, of)",
        299,
    ),
    "ids of another kind": ("c = NonZero(ids) r = Gather(table, c)", 514),
    "a sliced table": ("r = Slice(table, zero, end, zero)", 514),
    "a table sliced from its third row": ("r = Slice(table, two, end, zero)", 512),
    "a sliced table without axes": ("r = Slice(table, zero, end)", 514),
    "a sliced table with a batch": ("r = Slice(batched, zero, end, rank_1)", 514),
    "a sliced table of codes": (
        "c = Slice(codes, zero, end, zero) r = DequantizeLinear(c, scale)",
        514,
    ),
    "a table sliced and turned": (
        "c = Slice(table, zero, end, zero) r = Unsqueeze(c, zero)",
        514,
    ),
    "a table that an input chooses from": ("r = Gather(table, ids)", None),
    "a constant row": ("r = Gather(table, zero)", None),
    "a sliced mask of scores": (
        "r = Slice(mask_of_scores, zero, end, two)",
        None,
    ),
    "channels": ("r = Slice(table, zero, end, rank_1)", None),
}


def graph(steps: str) -> ir.Model:
    return model_of(
        f"""g (int64[B,T] ids) => (float[] y) {{
          end = Shape <start: int = 1, end: int = 2> (ids)
          length = Squeeze(end)
          x = Gather(words, ids)
          {steps}
          y = Add(x, r)
        }}""",
        CONSTANTS,
    )


@pytest.mark.parametrize(("steps", "limit"), LIMITS.values(), ids=LIMITS)
def test_a_table_is_for_so_many_tokens(steps: str, limit: int | None) -> None:
    assert position_limit(graph(steps)) == limit


@pytest.mark.parametrize("name", ["a sliced table", "a range behind two"])
def test_more_tokens_than_a_table_is_for_alter_the_result(name: str) -> None:
    steps, limit = LIMITS[name]
    assert limit is not None
    assert lint(graph(steps), sequence=limit) == ()
    (finding,) = lint(graph(steps), sequence=limit + 1)
    assert (finding.rule, finding.found) == (
        "position-limit",
        f"{limit + 1} tokens and {limit} positions",
    )


def test_a_slice_that_is_not_added_is_no_table_of_positions() -> None:
    model = graph("c = Slice(table, zero, end, zero) r = ReduceMax(c)")
    assert position_limit(model) is None
