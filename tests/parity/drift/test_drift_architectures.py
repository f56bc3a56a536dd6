"""Points of other encoders: blocks that run repeatedly, and residual streams beside the norms."""

from pathlib import Path

import onnx_ir as ir
import pytest
from tiny_models import POSITION_LIMIT, compressed_model, toy_data

from nxmi_export.capture import capture
from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.lowering import lower, tensorrt_passes
from nxmi_export.parity.drift import Kind, OnnxPoints, TorchPoints, localize, measure_drift
from nxmi_export.parity.drift.forced import ForcedReplay

# What has no tensor of its own: ALBERT's second run begins within the block, and its activation
# function is a formula of several nodes, of which two runs cannot be told apart.
UNOBSERVED = {
    "albert": {Kind.BLOCK, Kind.ACTIVATION},
    "modernbert": set(),
}


@pytest.mark.slow
@pytest.mark.parametrize("model_type", UNOBSERVED)
def test_an_export_of_another_encoder_is_observed_and_explained(
    model_type: str, tmp_path: Path
) -> None:
    model, data = compressed_model(model_type=model_type), toy_data(8, model_type=model_type)
    graph = capture(model, input_names=tuple(data.padding), position_limit=POSITION_LIMIT).model
    lower(graph, tensorrt_passes(dict.fromkeys(compressed_linears(model), (2, 4))))
    path = tmp_path / "model.onnx"
    ir.save(graph, path)
    eager = TorchPoints(model)
    points = eager.points(next(data.batches(8)).feeds)
    with OnnxPoints(path, points, optimize=False, threads=1) as written:
        drift = measure_drift(eager, written, data, batch_size=8)
    assert {point.kind for point in drift.unobserved} == UNOBSERVED[model_type]
    assert max(each.relative_rms for each in drift.points) < 1e-2
    assert localize(model, path, data, batch_size=8, threads=1).explained
    with ForcedReplay(model, path, threads=1) as replay:
        replay.add(next(data.batches(8)))
        judged = {point for point in replay.order if point.kind is not Kind.QUANTIZER}
    assert judged == {each.point for each in drift.points}
    runs = {each.point.run for each in drift.of(Kind.LINEAR)}
    assert runs == ({0, 1} if model_type == "albert" else {0})
