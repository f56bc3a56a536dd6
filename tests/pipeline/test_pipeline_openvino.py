"""Exported files on OpenVINO: logits, kernels, and the limits that it does not keep by itself."""

import numpy as np
import pytest
import torch

from nxmi_export.backends import openvino_session
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.openvino_kernels import linear_kernels, products_told
from nxmi_export.backends.openvino_library import Products
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.errors import ShapeError
from tests.pipeline.exports import ENCODER_LINEARS, Exported, batch
from tests.tiny_models import POSITION_LIMIT


def _feeds(batch: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in batch.items()}


def test_logits_are_onnxruntimes_but_for_rounding_ties(exported: Exported) -> None:
    path, feeds = exported.directory / "model.onnx", _feeds(batch())
    with OnnxRuntimeRunner(path, optimize=False, threads=1) as reference:
        expected = reference.run(feeds)["logits"]
    with OpenVinoRunner(path, threads=1) as runner:
        found = runner.run(feeds)["logits"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(
    ("products", "told"), [("int8", "int8 products"), ("float32", "float32 products")]
)
def test_kernels_say_in_what_linears_are_multiplied(
    products: Products, told: str, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_session, "products", lambda: products)
    path = exported.directory / "model.onnx"
    with OpenVinoRunner(path, threads=1) as runner:
        linears = linear_kernels(path, runner)
    names = list(exported.artefact.manifest.linears)
    assert sorted(each.module for each in linears) == sorted(names)
    assert sum(each.quantized for each in linears) == ENCODER_LINEARS
    assert [each.integer for each in linears] == [
        each.quantized and products == "int8" for each in linears
    ]
    assert all(len(each.kernels) == each.products == 1 for each in linears)
    assert products_told(linears) == told


def test_as_many_tokens_as_there_are_positions_and_no_more(exported: Exported) -> None:
    long = {
        name: np.full((2, POSITION_LIMIT + 1), value, np.int64)
        for name, value in {"input_ids": 5, "attention_mask": 1, "token_type_ids": 0}.items()
    }
    with OpenVinoRunner(exported.directory / "model.onnx", threads=1) as runner:
        runner.run({name: ids[:, :POSITION_LIMIT] for name, ids in long.items()})
        with pytest.raises(ShapeError) as caught:
            runner.run(long)
    assert (caught.value.expected, caught.value.found) == ("at most 64 tokens", "65")
