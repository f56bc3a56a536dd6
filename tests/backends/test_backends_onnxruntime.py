import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.errors import ArtefactError, CapabilityMissing, ShapeError, UsageError


@pytest.fixture(scope="module")
def external_path(encoder_model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same encoder with its weights in a second file."""
    path = tmp_path_factory.mktemp("external") / "model.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(encoder_model)
    onnx.save_model(copy, path, save_as_external_data=True, location="model.onnx.data")
    return path


def test_inputs_and_logits_by_name(encoder_path: Path, batch: dict[str, np.ndarray]) -> None:
    with OnnxRuntimeRunner(encoder_path, optimize=False, threads=1) as runner:
        assert runner.input_names == ("input_ids", "attention_mask")
        outputs = runner.run(batch)
    assert list(outputs) == ["logits"]
    assert outputs["logits"].shape == (2, 2)
    assert outputs["logits"].dtype == np.float32


def test_padding_does_not_reach_the_logits(
    encoder_path: Path, batch: dict[str, np.ndarray]
) -> None:
    other = batch["input_ids"].copy()
    other[1, 4:] = 31
    with OnnxRuntimeRunner(encoder_path, optimize=False) as runner:
        first = runner.run(batch)["logits"]
        second = runner.run(batch | {"input_ids": other})["logits"]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("optimize", "name"), [(False, "as written"), (True, "optimized")])
def test_the_name_says_whether_the_graph_is_optimized(
    encoder_path: Path, optimize: bool, name: str
) -> None:
    assert OnnxRuntimeRunner(encoder_path, optimize=optimize).name == f"onnxruntime {name}"


@pytest.mark.parametrize(
    ("optimize", "level"), [(False, "ORT_DISABLE_ALL"), (True, "ORT_ENABLE_ALL")]
)
def test_the_session_gets_the_level_the_threads_and_the_cpu(
    encoder_path: Path, optimize: bool, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_and_note(model: str, options: ort.SessionOptions, **others: object) -> object:
        opened.append((options, others))
        return session(model, options, **others)

    session = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", open_and_note)
    OnnxRuntimeRunner(encoder_path, optimize=optimize, threads=1)
    [(options, others)] = opened
    assert options.graph_optimization_level.name == level
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert others == {"providers": ["CPUExecutionProvider"]}


def test_quantizer_codes_are_read_as_int8(encoder_path: Path, batch: dict[str, np.ndarray]) -> None:
    with OnnxRuntimeRunner(
        encoder_path, optimize=False, extra_outputs=("hidden_codes", "hidden")
    ) as runner:
        outputs = runner.run(batch)
    with OnnxRuntimeRunner(encoder_path, optimize=False) as plain:
        logits = plain.run(batch)["logits"]
    assert list(outputs) == ["logits", "hidden_codes", "hidden"]
    codes = np.clip(np.rint(outputs["hidden"] / np.float32(0.03)), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(outputs["hidden_codes"], codes)
    np.testing.assert_array_equal(outputs["logits"], logits)


def test_extra_outputs_find_weights_in_a_second_file(
    encoder_path: Path, external_path: Path, batch: dict[str, np.ndarray]
) -> None:
    assert external_path.with_name("model.onnx.data").stat().st_size > 0
    before = sorted(external_path.parent.iterdir())
    results = []
    for path in (encoder_path, external_path):
        with OnnxRuntimeRunner(path, optimize=False, extra_outputs=("active_codes",)) as runner:
            results.append(runner.run(batch))
    for name in ("logits", "active_codes"):
        np.testing.assert_array_equal(results[0][name], results[1][name])
    assert sorted(external_path.parent.iterdir()) == before


def test_an_output_named_again_is_returned_once(
    encoder_path: Path, batch: dict[str, np.ndarray]
) -> None:
    with OnnxRuntimeRunner(encoder_path, optimize=False, extra_outputs=("logits",)) as runner:
        assert list(runner.run(batch)) == ["logits"]


def test_an_unknown_extra_output_is_refused(encoder_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        OnnxRuntimeRunner(encoder_path, optimize=False, extra_outputs=("nothing",))
    assert str(caught.value) == (
        f"{encoder_path}: extra output 'nothing': expected the name of a tensor in the graph, "
        "found none of that name; take the name from the graph as it was lowered"
    )


def test_an_input_the_graph_does_not_have_is_refused(
    encoder_path: Path, batch: dict[str, np.ndarray]
) -> None:
    with (
        OnnxRuntimeRunner(encoder_path, optimize=False) as runner,
        pytest.raises(UsageError) as caught,
    ):
        runner.run(batch | {"token_type_ids": batch["input_ids"]})
    assert str(caught.value) == (
        "onnxruntime as written: the batch: expected the inputs input_ids, attention_mask, "
        "found input_ids, attention_mask, token_type_ids; "
        "feed exactly the names in `input_names`"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        OnnxRuntimeRunner(tmp_path / "model.onnx", optimize=False)
    assert str(caught.value) == (
        f"{tmp_path / 'model.onnx'}: expected an ONNX model, found no file; "
        "export the model first or correct the path"
    )


@pytest.mark.parametrize("extra", [(), ("logits",)], ids=["from its path", "from its bytes"])
def test_a_damaged_file_is_refused(tmp_path: Path, extra: tuple[str, ...]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a protobuf at all" * 10)
    with pytest.raises(ArtefactError) as caught:
        OnnxRuntimeRunner(path, optimize=False, extra_outputs=extra)
    assert str(caught.value).startswith(
        f"{path}: expected a model that onnxruntime can load, found [ONNXRuntimeError]"
    )
    assert str(caught.value).endswith(
        "; export it again, or update onnxruntime where it names an unknown operator"
    )
    assert "INVALID_PROTOBUF" in caught.value.found


def test_a_machine_without_onnxruntime_is_told_how_to_get_it(
    encoder_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CapabilityMissing) as caught:
        OnnxRuntimeRunner(encoder_path, optimize=False)
    assert str(caught.value) == (
        "onnxruntime: expected an installation that loads, found import of onnxruntime halted; "
        "None in sys.modules; run `pip install onnxruntime`"
    )


def test_a_closed_runner_does_not_run(encoder_path: Path, batch: dict[str, np.ndarray]) -> None:
    with OnnxRuntimeRunner(encoder_path, optimize=True) as runner:
        pass
    message = r"^onnxruntime optimized: run\(\) after the runner was closed$"
    with pytest.raises(ValueError, match=message):
        runner.run(batch)


@pytest.mark.parametrize("optimize", [False, True])
def test_a_batch_beyond_the_last_position_is_refused(encoder_path: Path, optimize: bool) -> None:
    long = {name: np.ones((2, 17), np.int64) for name in ("input_ids", "attention_mask")}
    with OnnxRuntimeRunner(encoder_path, optimize=optimize) as runner:
        with pytest.raises(ShapeError) as caught:
            runner.run(long)
        runner.run({name: ids[:, :16] for name, ids in long.items()})
    reason = " ".join(str(caught.value.__cause__).split())
    assert reason
    assert str(caught.value) == (
        f"{runner.name}: a batch of input_ids 2×17, attention_mask 2×17: expected as many tokens "
        f"as the model has positions, and ids of its vocabulary, found {reason}; "
        "shorten the batch to position_limit in manifest.json, or encode it again"
    )


@pytest.mark.parametrize("found", ["16 bytes", "no file"])
def test_a_file_of_weights_that_is_cut_or_gone_is_named(
    found: str, external_path: Path, tmp_path: Path
) -> None:
    path, weights = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    content = external_path.with_name("model.onnx.data").read_bytes()
    path.write_bytes(external_path.read_bytes())
    if found != "no file":
        weights.write_bytes(content[:16])
    with pytest.raises(ArtefactError) as caught:
        OnnxRuntimeRunner(path, optimize=False)
    assert str(caught.value) == (
        f"{weights}: expected a file of at least {len(content)} bytes, which model.onnx reads, "
        f"found {found}; restore the file, or export the model again"
    )
