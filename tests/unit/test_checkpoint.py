import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from nxmi_export.checkpoint import CompressedCheckpoint, read_checkpoint, write_checkpoint
from nxmi_export.checkpoint.model_file import load_mapping
from nxmi_export.compression import restore
from nxmi_export.errors import (
    CheckpointError,
    CheckpointMismatch,
    NxmiError,
    OutputError,
    TruncatedCheckpoint,
    UnsafeCheckpoint,
)
from tests.tiny_models import (
    ARCHITECTURES,
    PLACEMENTS,
    compressed_checkpoint,
    compressed_model,
    logits_of,
    tiny_model,
    toy_batch,
    write_hugging_face,
    write_model_file,
)
from tests.unit.test_output_files import FULL, file_size_limit


class RunsCode:
    """A pickle of this object creates the file `path` when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_file(tmp_path_factory.mktemp("compressed") / "model.pt")


@pytest.fixture(scope="module")
def content(model_file: Path) -> dict[str, Any]:
    """What `model_file` holds."""
    return load_mapping(model_file)


def _refusal(kind: type[NxmiError], path: Path, *, base: Path | None = None) -> str:
    with pytest.raises(kind) as caught:
        restore(read_checkpoint(str(path), base=str(base) if base else None))
    assert type(caught.value) is kind
    return str(caught.value)


# ------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_restored_model_file_gives_the_same_logits(placement: str, tmp_path: Path) -> None:
    path = write_model_file(tmp_path / "model.pt", placement)
    model = restore(read_checkpoint(str(path)))
    feeds = toy_batch()
    assert torch.equal(logits_of(model, feeds), logits_of(compressed_model(placement), feeds))
    assert not any(module.training for module in model.modules())


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = compressed_checkpoint(tmp_path)
    write_checkpoint(tmp_path / "model.pt", written)
    read = read_checkpoint(str(tmp_path / "model.pt"))
    assert (read.architecture, read.config, read.recipe, read.provenance, read.tokenizer) == (
        written.architecture,
        written.config,
        written.recipe,
        written.provenance,
        written.tokenizer,
    )
    assert read.state.keys() == written.state.keys()
    assert all(torch.equal(read.state[name], written.state[name]) for name in read.state)
    assert "tokenizer.json" in read.tokenizer


def test_a_restored_model_shares_its_weights_with_the_checkpoint(model_file: Path) -> None:
    checkpoint = read_checkpoint(str(model_file))
    restored = restore(checkpoint).state_dict()
    copied = [
        name
        for name, tensor in checkpoint.state.items()
        if tensor.data_ptr() != restored[name].data_ptr()
    ]
    assert copied == []


def test_an_empty_tokenizer_file_survives(tmp_path: Path, content: dict[str, Any]) -> None:
    read = read_checkpoint(str(_saved(tmp_path, content)))
    files = {**read.tokenizer, "merges.txt": b""}
    again = CompressedCheckpoint(read.architecture, read.config, read.state, files, read.recipe)
    write_checkpoint(tmp_path / "again.pt", again)
    assert read_checkpoint(str(tmp_path / "again.pt")).tokenizer == files


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_hugging_face_directory_gives_the_same_logits(model_type: str, tmp_path: Path) -> None:
    dense = tiny_model(model_type)
    checkpoint = read_checkpoint(str(write_hugging_face(tmp_path, dense)))
    assert checkpoint.recipe is None
    assert checkpoint.provenance == {"source": str(tmp_path)}
    assert "tokenizer.json" in checkpoint.tokenizer
    feeds = toy_batch(model_type)
    assert torch.equal(logits_of(restore(checkpoint), feeds), logits_of(dense, feeds))


def test_a_directory_in_half_precision_gives_the_logits_of_its_numbers_in_float32(
    tmp_path: Path,
) -> None:
    half = tiny_model().half()
    checkpoint = read_checkpoint(str(write_hugging_face(tmp_path, half)))
    assert checkpoint.config["dtype"] == "float16"
    model = restore(checkpoint)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(logits_of(model, toy_batch()), logits_of(half.float(), toy_batch()))


def test_a_configuration_that_asks_for_tuples_runs_all_the_same(tmp_path: Path) -> None:
    dense = tiny_model()
    dense.config.return_dict = False
    model = restore(read_checkpoint(str(write_hugging_face(tmp_path, dense))))
    dense.config.return_dict = True
    assert torch.equal(logits_of(model, toy_batch()), logits_of(dense, toy_batch()))


def _with_more(directory: Path, *names: str) -> Path:
    """Weights of these names beside the others."""
    path = directory / "model.safetensors"
    content = load_file(path) | {name: torch.zeros(2) for name in names}
    save_file(content, path, metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize(
    ("model_type", "names"),
    [
        (
            "bert",
            (
                *("cls.predictions.bias", "bert.embeddings.position_ids"),
                "bert.embeddings.token_type_ids",
            ),
        ),
        ("roberta", ("lm_head.bias", "roberta.pooler.dense.weight")),
    ],
)
def test_what_pre_training_left_beside_the_model_is_ignored(
    model_type: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    dense = tiny_model(model_type)
    directory = _with_more(write_hugging_face(tmp_path, dense), *names)
    model, feeds = restore(read_checkpoint(str(directory))), toy_batch(model_type)
    assert torch.equal(logits_of(model, feeds), logits_of(dense, feeds))


def test_weights_of_the_encoder_that_the_configuration_has_no_place_for_are_refused(
    tmp_path: Path,
) -> None:
    distances = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    _with_more(write_hugging_face(tmp_path), distances, "bert.encoder.layer.2.output.dense.bias")
    with pytest.raises(CheckpointMismatch) as caught:
        read_checkpoint(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: expected an encoder all of which BertForSequenceClassification has by this "
        f"config.json, found 2 weights without a place, the first being {distances}; check that "
        "the weights belong to this config.json"
    )


def _of_the_bare_encoder(directory: Path) -> Path:
    """The same weights by the names that a base model saves."""
    path = directory / "model.safetensors"
    content = {name.removeprefix("bert."): each for name, each in load_file(path).items()}
    save_file(content, path, metadata={"format": "pt"})
    return directory


def test_weights_without_a_place_are_refused_by_the_names_of_a_bare_encoder_too(
    tmp_path: Path,
) -> None:
    directory = _of_the_bare_encoder(write_hugging_face(tmp_path))
    read_checkpoint(str(_with_more(directory, "embeddings.position_ids", "pooler.more.weight")))
    _with_more(directory, "encoder.layer.2.output.dense.bias")
    with pytest.raises(CheckpointMismatch, match=r"found 1 weights without a place.*layer\.2\."):
        read_checkpoint(str(directory))


def test_reading_a_directory_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_hugging_face(tmp_path)
    capfd.readouterr()
    read_checkpoint(str(tmp_path))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_bare_state_dict_needs_only_a_base(wrapped: bool, tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "base", tiny_model(seed=1))
    trained = tiny_model(seed=2)
    state = trained.state_dict()
    path = _saved(tmp_path, {"state_dict": state, "epoch": 3} if wrapped else state)
    model = restore(read_checkpoint(str(path), base=str(tmp_path / "base")))
    assert torch.equal(logits_of(model, toy_batch()), logits_of(trained, toy_batch()))


def test_weights_in_half_precision_are_computed_in_float32(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "base")
    path = _saved(tmp_path, tiny_model().half().state_dict())
    model = restore(read_checkpoint(str(path), base=str(tmp_path / "base")))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert logits_of(model, toy_batch()).dtype == torch.float32


def test_the_old_file_format_of_torch_is_read_too(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "base")
    path = tmp_path / "model.bin"
    torch.save(tiny_model().state_dict(), path, _use_new_zipfile_serialization=False)
    restore(read_checkpoint(str(path), base=str(tmp_path / "base")))


# ------------------------------------------------------------------------- a pickle with code in it


def _save_zip(payload: object, path: Path) -> None:
    torch.save({"state": payload}, path)


def _save_legacy(payload: object, path: Path) -> None:
    torch.save({"state": payload}, path, _use_new_zipfile_serialization=False)


def _save_raw(protocol: int) -> Any:
    def save(payload: object, path: Path) -> None:
        path.write_bytes(pickle.dumps({"state": payload}, protocol=protocol))

    return save


SAVERS = {"zip": _save_zip, "legacy": _save_legacy} | {
    f"raw pickle {protocol}": _save_raw(protocol) for protocol in (0, 1, 2, 3, 4, 5)
}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_a_pickle_with_code_is_refused_and_not_executed(save: Any, tmp_path: Path) -> None:
    path, trace = tmp_path / "model.pt", tmp_path / "executed"
    save(RunsCode(trace), path)
    assert _refusal(UnsafeCheckpoint, path) == (
        f"{path}: expected tensors and plain data only, found a pickle that wants to import "
        f"{os.system.__module__}.system, which was not executed; save model.state_dict() instead "
        "of the model object"
    )
    assert not trace.exists()


def test_the_payload_of_these_tests_is_a_real_one(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    pickle.loads(pickle.dumps(RunsCode(trace)))
    assert trace.exists()


@pytest.mark.parametrize("save", [_save_zip, _save_legacy, _save_raw(4)])
def test_a_pickled_model_object_is_refused_by_the_name_of_its_class(
    save: Any, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    save(torch.nn.Linear(2, 2), path)
    assert "wants to import torch.nn.modules.linear.Linear, which" in _refusal(
        UnsafeCheckpoint, path
    )


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    assert _refusal(UnsafeCheckpoint, path) == (
        f"{path}: expected tensors and plain data only, found a TorchScript program, which was not "
        "executed; save model.state_dict() instead"
    )


def test_a_directory_whose_weights_are_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    directory, trace = tmp_path / "model", tmp_path / "executed"
    write_hugging_face(directory)
    (directory / "model.safetensors").unlink()
    _save_zip(RunsCode(trace), directory / "pytorch_model.bin")
    assert _refusal(UnsafeCheckpoint, directory) == (
        f"{directory}: expected tensors and plain data only, found a weight file whose pickle "
        "wants more, which was not executed; save the model again with "
        "model.save_pretrained(directory)"
    )
    assert not trace.exists()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "config.json", "a/tokenizer.json"])
def test_a_tokenizer_file_cannot_leave_its_folder(
    name: str, content: dict[str, Any], tmp_path: Path
) -> None:
    files = {name: torch.zeros(1, dtype=torch.uint8)}
    path = _saved(tmp_path, content | {"tokenizer": files})
    assert _refusal(CheckpointError, path) == (
        f"{path}: expected a complete compressed checkpoint, found the tokenizer file {name!r}; "
        "write it again with nxmi_export.checkpoint.write_checkpoint"
    )


# -------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0, 1, 10, 0.5, 0.99, -1], ids=str)
def test_a_truncated_file_is_refused(
    kept: int | float, legacy: bool, content: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    count = int(kept * len(whole)) if isinstance(kept, float) else kept
    path.write_bytes(whole[:count])
    found = "data that cannot be read to its end"
    if not legacy and count not in (0, 1):
        found = "an archive without its directory at the end"
    assert _refusal(TruncatedCheckpoint, path) == (
        f"{path}: expected a complete torch file, found {found}; copy or save the file again"
    )


@given(kept=st.floats(0, 1, exclude_max=True), legacy=st.booleans())
def test_no_truncation_slips_through(
    kept: float, legacy: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("truncated") / "model.pt"
    torch.save({"a": torch.ones(50)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    # A legacy file may break off inside the name of an import, which then is none that is allowed.
    with pytest.raises(CheckpointError if legacy else TruncatedCheckpoint):
        load_mapping(path)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), legacy=st.booleans())
def test_a_changed_byte_is_an_error_of_ours_or_harmless(
    place: float, value: int, legacy: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "model.pt"
    torch.save({"a": torch.ones(50)}, path, _use_new_zipfile_serialization=not legacy)
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] = value
    path.write_bytes(damaged)
    try:
        loaded = load_mapping(path)
    except CheckpointError:
        return
    # The old format has no checksums; in the new one whatever loads is what was saved.
    assert legacy or torch.equal(loaded["a"], torch.ones(50))


def test_a_flipped_bit_in_a_weight_is_found(content: dict[str, Any], tmp_path: Path) -> None:
    path = _saved(tmp_path, content)
    damaged = bytearray(path.read_bytes())
    weight = content["state"]["bert.embeddings.word_embeddings.weight"].numpy().tobytes()
    damaged[damaged.index(weight)] ^= 1
    path.write_bytes(damaged)
    assert _refusal(TruncatedCheckpoint, path).startswith(
        f"{path}: expected a complete torch file, found a wrong checksum of model/data/"
    )


# ------------------------------------------------------------------------------------- writing


def test_numbers_of_numpy_become_plain_ones(content: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = read_checkpoint(str(_saved(tmp_path, content)))
    numpy_score = torch.tensor(0.5, dtype=torch.float64).numpy()[()]
    again = CompressedCheckpoint(
        checkpoint.architecture,
        checkpoint.config,
        checkpoint.state,
        checkpoint.tokenizer,
        checkpoint.recipe,
        provenance={"accuracy": numpy_score},
    )
    write_checkpoint(tmp_path / "again.pt", again)
    assert read_checkpoint(str(tmp_path / "again.pt")).provenance == {"accuracy": 0.5}


def test_provenance_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    checkpoint = CompressedCheckpoint("A", {}, {}, {}, provenance={"path": tmp_path})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_checkpoint(tmp_path / "model.pt", checkpoint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [RuntimeError("stop"), KeyboardInterrupt()], ids=repr)
def test_an_interrupted_write_leaves_the_old_file(
    stop: BaseException,
    content: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint = read_checkpoint(str(_saved(tmp_path, content)))
    path = tmp_path / "again.pt"
    path.write_text("old")

    def save(content: object, file: Any) -> None:
        file.write(b"half of it")
        raise stop

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(type(stop)):
        write_checkpoint(path, checkpoint)
    assert path.read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"again.pt", "model.pt"}


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.99])
def test_a_full_disk_leaves_the_old_file(
    share: float, content: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(str(_saved(tmp_path, content)))
    path = tmp_path / "again.pt"
    path.write_text("old")
    limit = int(share * (tmp_path / "model.pt").stat().st_size)
    with pytest.raises(OutputError) as caught, file_size_limit(limit):
        write_checkpoint(path, checkpoint)
    assert str(caught.value) == f"{path}: {FULL.format('a limit on the size of files')}"
    assert path.read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"again.pt", "model.pt"}


def _saved(directory: Path, content: object) -> Path:
    path = directory / "model.pt"
    torch.save(content, path)
    return path
