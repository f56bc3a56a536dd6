"""Zero-points of stored weights: each its own, whatever exporters have merged."""

import numpy as np
import onnxruntime
import pytest

from passes import (
    CanonicalLinear,
    Change,
    FoldWeightQuantization,
    InvariantViolated,
    OwnZeroPoints,
    ShareQuantizers,
    UnsignedActivations,
)
from passes.quantizer_invariants import weight_zero_points_are_their_own
from tests.passes.sample_graphs import described, encoder, feeds_of, model_of, run, serialized

TWO = """
two (float[S, 2] x) => (float[S, 2] y)
<int8[2, 2] a = {{1, 2, 3, 4}}, int8[2, 2] b = {{5, 6, 7, 8}}, float s = {{0.5}}, {zeros}> {{
  [one__DQ] v = DequantizeLinear(a, s, {first})
  [two__DQ] w = DequantizeLinear(b, s, {second})
  [one__M] h = MatMul(x, v)
  [two__M] y = MatMul(h, w)
}}
"""


def test_weights_that_share_a_zero_point_get_one_each() -> None:
    model = model_of(TWO.format(zeros="int8 z = {0}", first="z", second="z"))
    result = OwnZeroPoints()(model)
    zeros = "int8 z = {0}, int8 z_own = {0}"
    assert described(model) == described(
        model_of(TWO.format(zeros=zeros, first="z_own", second="z"))
    )
    assert [type(entry) for entry in result.entries] == [Change]


def test_an_absent_zero_point_is_written_out() -> None:
    model = model_of(TWO.format(zeros="int8 z = {0}", first="z", second="").replace("s, )", "s)"))
    OwnZeroPoints()(model)
    zeros = "int8 z = {0}, int8 zero_point_own = {0}"
    assert described(model) == described(
        model_of(TWO.format(zeros=zeros, first="z", second="zero_point_own"))
    )


def test_a_shared_zero_point_is_named() -> None:
    with pytest.raises(InvariantViolated) as error:
        weight_zero_points_are_their_own.check(
            model_of(TWO.format(zeros="int8 z = {0}", first="z", second="z"))
        )
    assert error.value.found == "z, shared by 2 nodes"
    assert error.value.remedy == "run OwnZeroPoints on the graph"


def test_onnxruntime_sums_exactly_on_every_processor() -> None:
    """Without VNNI the codes were tens of steps off, and with shared zero-points nothing loaded."""
    model = encoder("linear")
    for graph_pass in (FoldWeightQuantization(), CanonicalLinear(), ShareQuantizers()):
        graph_pass(model)
    feeds = feeds_of(model)
    expected = run(model, feeds)
    UnsignedActivations()(model)
    OwnZeroPoints()(model)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        serialized(model), options, providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(session.run(None, feeds), expected, rtol=0, atol=1e-4)
