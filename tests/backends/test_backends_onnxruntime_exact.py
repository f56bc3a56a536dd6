"""Products that onnxruntime computes otherwise than the graph says, unless it is told not to."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS, FLOAT_PRODUCTS
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner, exact_options
from tests.backends.product_graphs import LARGEST, K, floats_by_integers, largest_product


@pytest.mark.parametrize("signed", [False, True])
def test_optimized_integer_products_do_not_saturate(tmp_path: Path, signed: bool) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(largest_product(signed), path)
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
    model = largest_product(signed=False).SerializeToString()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "MatMulIntegerToFloat" in kinds


def test_floats_keep_their_bits_where_they_meet_stored_integers(tmp_path: Path) -> None:
    path = tmp_path / "product.onnx"
    model = floats_by_integers()
    onnx.save(model, path)
    table, codes, scale, _ = map(onnx.numpy_helper.to_array, model.graph.initializer)
    with OnnxRuntimeRunner(path, optimize=True, threads=1) as runner:
        logits = runner.run({"input_ids": np.arange(4)[np.newaxis]})["logits"]
    np.testing.assert_allclose(logits[0], table @ (codes * scale), rtol=1e-5, atol=1e-4)


def test_onnxruntime_rounds_them_unless_it_is_told_not_to(tmp_path: Path) -> None:
    """Otherwise the option would say nothing, and the test above would not either."""
    content = floats_by_integers().SerializeToString()
    feeds = {"input_ids": np.arange(4)[np.newaxis]}
    told = ort.SessionOptions()
    for key, value in FLOAT_PRODUCTS.items():
        told.add_session_config_entry(key, value)
    exact, rounded = (
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)
        for options in (told, ort.SessionOptions())
    )
    assert np.abs(exact[0] - rounded[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("model", "entries"),
    [
        (floats_by_integers(), {**EXACT_PRODUCTS, **FLOAT_PRODUCTS}),
        (largest_product(signed=False), dict(EXACT_PRODUCTS)),
    ],
    ids=["floats", "integers"],
)
def test_a_file_needs_the_entries_of_its_products(
    tmp_path: Path, model: onnx.ModelProto, entries: dict[str, str]
) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(model, path)
    assert exact_options(path) == entries


def test_a_file_that_cannot_be_read_needs_none(tmp_path: Path) -> None:
    (tmp_path / "product.onnx").write_bytes(b"no model")
    assert exact_options(tmp_path / "product.onnx") == {}
