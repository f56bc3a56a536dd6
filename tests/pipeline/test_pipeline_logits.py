"""What an exported model computes: the PyTorch model's logits, in integers where it promises so."""

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.recipe import Placement
from tests.pipeline.exports import ENCODER_LINEARS, LAYERS, ONNX_FILES, Exported, batch, load
from tests.tiny_models import logits_of

# Float noise. A code that flips at a rounding tie moves these logits by about a hundredth.
NOISE = 1e-5


def logits(path: Path) -> NDArray[np.float32]:
    feeds = {name: tensor.numpy() for name, tensor in batch().items()}
    with OnnxRuntimeRunner(path, optimize=False, threads=1) as runner:
        result: NDArray[np.float32] = runner.run(feeds)["logits"]
    return result


@pytest.mark.parametrize("name", ONNX_FILES)
def test_logits_are_those_of_the_pytorch_model(exported: Exported, name: str) -> None:
    expected = logits_of(exported.model, batch()).numpy()
    np.testing.assert_allclose(logits(exported.directory / name), expected, rtol=0, atol=NOISE)


def test_both_files_give_the_same_logits(exported: Exported) -> None:
    first, second = (logits(exported.directory / name) for name in ONNX_FILES)
    np.testing.assert_array_equal(first, second)


def test_quantization_moves_the_logits_by_more_than_the_noise(exported: Exported) -> None:
    """Otherwise the comparisons above would hold for a model without its quantizers."""
    expected = logits_of(exported.model, batch())
    model = copy.deepcopy(exported.model)
    for each in model.modules():
        if isinstance(each, ActivationQuantizer):
            each.scale.mul_(1.5)
    changed = logits_of(model, batch())
    assert float((changed - expected).abs().max()) > 100 * NOISE


def test_onnxruntime_runs_every_encoder_linear_as_an_integer_product(
    export_of: Callable[[Placement], Exported], tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns that an optimized model is not portable
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    path = export_of(Placement.LINEAR).directory / "model.cpu.onnx"
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["MatMulIntegerToFloat"] == ENCODER_LINEARS
    # Scores and context of each layer, which this placement leaves in float.
    assert kinds["MatMul"] + kinds["FusedMatMul"] == 2 * LAYERS
    # Pooler and classifier.
    assert kinds["Gemm"] + kinds["FusedGemm"] == 2
