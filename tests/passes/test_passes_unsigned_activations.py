from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest

from passes import (
    CanonicalLinear,
    Change,
    FoldWeightQuantization,
    InvariantViolated,
    ShareQuantizers,
    UnsignedActivations,
)
from tests.passes.sample_graphs import described, encoder, model_of, serialized

PAIR = """
pair (float[S] x) => (float[S] y) <float s = {{0.5}}, {zero}> {{
  [query__input_quantizer__Q] q = QuantizeLinear(x, s, {name})
  [query__input_quantizer__DQ] y = DequantizeLinear(q, s, {name})
}}
"""


def test_int8_codes_around_zero_become_uint8_codes_around_128() -> None:
    model = model_of(PAIR.format(zero="int8 z = {0}", name="z"))
    result = UnsignedActivations()(model)
    expected = PAIR.format(zero="uint8 zero_point_uint8 = {128}", name="zero_point_uint8")
    assert described(model) == described(model_of(expected))
    assert result.entries == (
        Change(
            "node_Q_0",
            "query.input_quantizer",
            "codes shifted from int8 around 0 to uint8 around 128",
        ),
    )


def test_a_zero_point_that_is_not_the_middle_is_refused() -> None:
    with pytest.raises(InvariantViolated) as error:
        UnsignedActivations()(model_of(PAIR.format(zero="uint8 z = {0}", name="z")))
    assert str(error.value) == (
        "query.input_quantizer (QuantizeLinear node_Q_0): expected int8 codes with zero-point 0 "
        "or uint8 codes with zero-point 128, found uint8 codes with zero-point 0; "
        "quantize symmetrically"
    )


def optimized_operators(model_bytes: bytes, path: Path) -> Counter[str]:
    """What onnxruntime makes of a model when it may optimize."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns that the optimized file suits this machine only
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_a_shared_uint8_value_runs_every_linear_as_integers(tmp_path: Path) -> None:
    """Why no pass splits quantizers for the CPU: int8 sharing costs query, key and value, uint8
    sharing costs nothing.
    """
    model = encoder("linear")
    for graph_pass in (FoldWeightQuantization(), CanonicalLinear(), ShareQuantizers()):
        graph_pass(model)
    signed = optimized_operators(serialized(model), tmp_path / "signed.onnx")
    UnsignedActivations()(model)
    unsigned = optimized_operators(serialized(model), tmp_path / "unsigned.onnx")
    assert signed["MatMulIntegerToFloat"] < 6
    assert unsigned["MatMulIntegerToFloat"] == 6
    assert unsigned["MatMul"] + unsigned["FusedMatMul"] == 2  # the attention, float as placed
