"""Graphs that onnxruntime's own quantizer makes: its defaults and settings nearer to TensorRT."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from nxmi_export.backends.tensorrt_engine import ShapeProfile, build_engine, find_library
from nxmi_export.capture import capture
from nxmi_export.errors import CapabilityMissing, EngineBuildFailed
from passes.lint import EXACT_FIXES, ROUNDING_FIXES, Severity, lint, mend
from tests.passes.sample_graphs import run
from tests.pipeline.exports import SIZES
from tests.tiny_models import POSITION_LIMIT, tiny_model

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SYMMETRIC: dict[str, Any] = {
    "per_channel": True,
    "op_types_to_quantize": ["MatMul"],
    "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True},
}


def feeds(seed: int) -> dict[str, npt.NDArray[np.int64]]:
    ids = np.random.default_rng(seed).integers(0, 96, (2, 16))
    return dict(zip(INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))


class Sentences(CalibrationDataReader):  # type: ignore[misc]  # an untyped library
    def __init__(self) -> None:
        self.left = [feeds(seed) for seed in range(3)]

    def get_next(self) -> dict[str, npt.NDArray[np.int64]] | None:
        return self.left.pop() if self.left else None


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense") / "dense.onnx"
    graph = capture(tiny_model(**SIZES), input_names=INPUTS, position_limit=POSITION_LIMIT)
    ir.save(graph.model, path)
    return path


@pytest.fixture(scope="module")
def default(dense: Path) -> Path:
    path = dense.with_name("default.onnx")
    quantize_static(dense, path, Sentences())
    return path


def rules(model: ir.Model, severity: Severity) -> set[str]:
    return {each.rule for each in lint(model) if each.severity is severity}


def test_its_defaults_are_refused(default: Path) -> None:
    assert rules(ir.load(default), Severity.REFUSE) == {
        "activation-zero-point",
        "stored-bias",
        "weight-zero-point",
    }
    assert rules(ir.load(default), Severity.DEGRADE) == {
        "narrow-layer",
        "quantized-scores",
        "softmax-scale",
    }


def test_exact_fixes_mend_its_defaults_but_for_activations(default: Path) -> None:
    model = ir.load(default)
    mended = mend(model, EXACT_FIXES)
    assert rules(mended.model, Severity.REFUSE) == {"activation-zero-point"}
    np.testing.assert_array_equal(run(mended.model, feeds(9)), run(model, feeds(9)))


def test_requantized_defaults_are_no_longer_refused(default: Path, dense: Path) -> None:
    model = ir.load(default)
    mended = mend(model, (*ROUNDING_FIXES, *EXACT_FIXES))
    assert rules(mended.model, Severity.REFUSE) == set()
    (expected,), (found,) = run(ir.load(dense), feeds(9)), run(mended.model, feeds(9))
    np.testing.assert_allclose(found, expected, atol=0.5)


def test_symmetric_settings_are_accepted(dense: Path) -> None:
    path = dense.with_name("symmetric.onnx")
    quantize_static(dense, path, Sentences(), **SYMMETRIC)
    model = ir.load(path)
    assert rules(model, Severity.REFUSE) == set()
    assert rules(model, Severity.DEGRADE) == {"quantized-scores", "softmax-scale"}


def test_tensorrt_refuses_the_defaults_and_builds_them_mended(
    default: Path, tmp_path: Path
) -> None:
    try:
        library = find_library("tensorrt_rtx")
    except CapabilityMissing as missing:
        pytest.skip(str(missing))
    profile = ShapeProfile.parse("min=1x8,opt=2x16,max=4x32", position_limit=POSITION_LIMIT)
    plan = tmp_path / "model.plan"
    with pytest.raises(EngineBuildFailed, match="a graph that TensorRT's parser accepts"):
        build_engine(default, plan, profiles=[profile], library=library)
    fixed = tmp_path / "fixed.onnx"
    ir.save(mend(ir.load(default), (*ROUNDING_FIXES, *EXACT_FIXES)).model, fixed)
    assert build_engine(fixed, plan, profiles=[profile], library=library).size_bytes
