"""Files of OpenVINO's own format, as other tools write them."""

import sys
from pathlib import Path

import numpy as np
import openvino
import pytest

from nxmi_export.backends.openvino_ir import OpenVinoIrRunner
from nxmi_export.backends.openvino_library import properties_of, threads_of
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.errors import ArtefactError, CapabilityMissing, ShapeError, UsageError


@pytest.fixture(scope="module")
def ir_path(encoder_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ir") / "other.xml"
    # Without compression to float16, which would be other weights than the ONNX file's.
    openvino.save_model(openvino.convert_model(encoder_path), path, compress_to_fp16=False)
    return path


def test_with_exact_products_it_answers_as_the_onnx_file(
    ir_path: Path, encoder_path: Path, batch: dict[str, np.ndarray]
) -> None:
    with OpenVinoRunner(encoder_path, threads=1) as reference:
        expected = reference.run(batch)["logits"]
        properties = properties_of(reference.products, 1)
    with OpenVinoIrRunner(ir_path, properties=properties) as runner:
        assert runner.input_names == ("input_ids", "attention_mask")
        found = runner.run(batch)
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=1e-5)


def test_without_properties_it_is_compiled_by_default(
    ir_path: Path, batch: dict[str, np.ndarray]
) -> None:
    with OpenVinoIrRunner(ir_path, properties=threads_of(1)) as runner:
        found = runner.run(batch)["logits"]
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(ir_path), "CPU", {"INFERENCE_NUM_THREADS": 1})
    np.testing.assert_array_equal(found, compiled(batch)[0])


def test_a_batch_needs_the_inputs_of_the_file(ir_path: Path, batch: dict[str, np.ndarray]) -> None:
    runner = OpenVinoIrRunner(ir_path, properties={})
    with pytest.raises(UsageError, match="expected the inputs input_ids, attention_mask, found"):
        runner.run({"input_ids": batch["input_ids"]})


def test_a_batch_of_another_shape_than_the_file_has_is_refused(
    encoder_path: Path, batch: dict[str, np.ndarray], tmp_path: Path
) -> None:
    model = openvino.convert_model(encoder_path)
    model.reshape({name: [1, 4] for name in batch})
    openvino.save_model(model, tmp_path / "fixed.xml")
    with (
        OpenVinoIrRunner(tmp_path / "fixed.xml", properties={}) as runner,
        pytest.raises(ShapeError) as caught,
    ):
        runner.run(batch)
    assert caught.value.subject == (
        "OpenVINO, fixed.xml: a batch of input_ids 2×7, attention_mask 2×7"
    )
    assert caught.value.remedy == "write the file again with open shapes"


def test_a_closed_runner_runs_nothing(ir_path: Path, batch: dict[str, np.ndarray]) -> None:
    with OpenVinoIrRunner(ir_path, properties={}) as runner:
        pass
    with pytest.raises(ValueError, match=r"run\(\) after the runner was closed"):
        runner.run(batch)


@pytest.mark.parametrize(
    ("gone", "what"),
    [(".xml", "a model of OpenVINO"), (".bin", "the weights of other.xml")],
)
def test_either_file_that_is_missing_is_named(
    ir_path: Path, tmp_path: Path, gone: str, what: str
) -> None:
    for suffix in {".xml", ".bin"} - {gone}:
        path = ir_path.with_suffix(suffix)
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ArtefactError) as caught:
        OpenVinoIrRunner(tmp_path / "other.xml", properties={})
    assert str(caught.value) == (
        f"{tmp_path / 'other'}{gone}: expected {what}, which openvino.save_model writes as two "
        "files side by side, found no file; correct the path, or write both again"
    )


def test_a_damaged_file_is_refused(ir_path: Path, tmp_path: Path) -> None:
    (tmp_path / "other.xml").write_bytes(ir_path.read_bytes()[:1000])
    (tmp_path / "other.bin").write_bytes(ir_path.with_suffix(".bin").read_bytes())
    with pytest.raises(ArtefactError) as caught:
        OpenVinoIrRunner(tmp_path / "other.xml", properties={})
    assert caught.value.expected == (
        "a model that OpenVINO can load, whose inputs and outputs have names"
    )
    assert caught.value.remedy == "write it again with openvino.save_model"


def test_without_openvino_it_says_what_to_install(
    ir_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(CapabilityMissing) as caught:
        OpenVinoIrRunner(ir_path, properties={})
    assert caught.value.remedy == 'run `pip install "nxmi-export[openvino]"`'
