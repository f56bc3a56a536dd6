"""Integer products whose 16-bit pair sums overflow, as they do on x86 without VNNI."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner

LARGEST, K, N = 127, 64, 32


def _largest_product(signed: bool) -> onnx.ModelProto:
    """Every activation code and every weight at its largest: each output is 127 · 127 · 64."""
    codes, point = ("int8", 0) if signed else ("uint8", 128)
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 20]>
        product (int64[batch, sequence] input_ids) => (float[batch, sequence, {N}] logits)
        <float one = {{1.0}}, {codes} point = {{{point}}}>
        {{
          x = Gather (table, input_ids)
          x_codes = QuantizeLinear (x, one, point)
          x_8 = DequantizeLinear (x_codes, one, point)
          weight = DequantizeLinear <axis = 1> (weight_codes, weight_scale, weight_point)
          logits = MatMul (x_8, weight)
        }}""")
    constants = {
        "table": np.full((1, K), LARGEST, np.float32),
        "weight_codes": np.full((K, N), LARGEST, np.int8),
        "weight_scale": np.ones(N, np.float32),
        "weight_point": np.zeros(N, np.int8),
    }
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    return model


@pytest.mark.parametrize("signed", [False, True])
def test_optimized_integer_products_do_not_saturate(tmp_path: Path, signed: bool) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(_largest_product(signed), path)
    with OnnxRuntimeRunner(path, optimize=True, threads=1) as runner:
        logits = runner.run({"input_ids": np.zeros((1, 3), np.int64)})["logits"]
    np.testing.assert_array_equal(logits, np.float32(LARGEST * LARGEST * K))


def test_the_graph_above_is_run_by_an_integer_kernel(tmp_path: Path) -> None:
    """Otherwise the test above would pass in float."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the optimized file suits this machine only
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    for key, value in EXACT_PRODUCTS.items():
        options.add_session_config_entry(key, value)
    model = _largest_product(signed=False).SerializeToString()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "MatMulIntegerToFloat" in kinds
