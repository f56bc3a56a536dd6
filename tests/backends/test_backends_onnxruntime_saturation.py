"""Where onnxruntime's default kernels lose sums, and which files can meet them."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from nxmi_export.backends import onnxruntime_saturation
from nxmi_export.backends.onnxruntime_saturation import (
    integer_products_are_exact,
    may_saturate,
    saturates_here,
)
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.processor import this_processor
from tests.backends.product_graphs import LARGEST, K, floats_by_integers, largest_product

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


def test_default_products_are_wrong_where_this_processor_saturates_and_nowhere_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(largest_product(signed=False), path)
    feeds = {"input_ids": np.zeros((1, 3), np.int64)}
    with OnnxRuntimeRunner(path, optimize=True, threads=1, products="default") as runner:
        default = runner.run(feeds)["logits"]
    with OnnxRuntimeRunner(path, optimize=True, threads=1) as runner:
        exact = runner.run(feeds)["logits"]
    assert bool((default != exact).any()) == saturates_here()
    np.testing.assert_array_equal(exact, np.float32(LARGEST * LARGEST * K))


@pytest.mark.parametrize(
    "model",
    [largest_product(signed=False), floats_by_integers()],
    ids=["codes by codes", "floats by codes"],
)
def test_stored_int8_matrices_may_saturate(tmp_path: Path, model: onnx.ModelProto) -> None:
    path = tmp_path / "product.onnx"
    onnx.save(model, path)
    assert may_saturate(path)


def test_uint8_weights_and_floats_do_not(tmp_path: Path) -> None:
    path = tmp_path / "product.onnx"
    model = largest_product(signed=False)
    for tensor in model.graph.initializer:
        if tensor.name in {"weight_codes", "weight_point"}:
            tensor.data_type = onnx.TensorProto.UINT8
    onnx.save(model, path)
    assert not may_saturate(path)


def test_a_file_that_cannot_be_read_is_left_to_the_session(tmp_path: Path) -> None:
    (tmp_path / "product.onnx").write_bytes(b"no model")
    assert not may_saturate(tmp_path / "product.onnx")


def test_the_operator_of_integer_products_keeps_its_sums_where_it_is_told_to() -> None:
    assert integer_products_are_exact()


@pytest.mark.skipif(
    bool(VNNI & set(this_processor().int8_instructions)),
    reason="this processor adds in 32 bits whatever it is told",
)
def test_untold_it_loses_them_without_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_saturation, "EXACT_PRODUCTS", {})
    assert not integer_products_are_exact()


def test_a_release_without_the_operator_has_no_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_saturation, "PRODUCT", "ProductOfTomorrow")
    assert not integer_products_are_exact()
