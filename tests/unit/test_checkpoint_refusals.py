"""Every way a checkpoint can be wrong, and the one sentence that says so."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError

from nxmi_export.checkpoint import checkpoint_sha256, read_checkpoint
from nxmi_export.checkpoint.model_file import load_mapping
from nxmi_export.compression import restore
from nxmi_export.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotFound,
    InvalidScale,
    NxmiError,
    RecipeError,
    TruncatedCheckpoint,
    UnsupportedModel,
    UnsupportedWeight,
)
from tests.tiny_models import tiny_model, write_hugging_face, write_model_file

Content = dict[str, Any]
QUERY = "bert.encoder.layer.0.attention.self.query"
WORDS = "bert.embeddings.word_embeddings.weight"
AGAIN = "write it again with nxmi_export.checkpoint.write_checkpoint"
FITTING = "use the configuration and recipe that the weights were trained with"
WEIGHTS = "state dict: expected the weights of this BertForSequenceClassification"


def _malformed(found: str) -> str:
    return f"{{path}}: expected a complete compressed checkpoint, found {found}; {AGAIN}"


def _put(*keys: str, value: object) -> Callable[[Content], None]:
    def edit(content: Content) -> None:
        *outer, last = keys
        for key in outer:
            content = content[key]
        content[last] = value

    return edit


def _drop(*keys: str) -> Callable[[Content], None]:
    def edit(content: Content) -> None:
        *outer, last = keys
        for key in outer:
            content = content[key]
        del content[last]

    return edit


def _drop_parts(content: Content) -> None:
    del content["state"], content["recipe"]


def _scale(value: float, *, index: int = 0) -> Callable[[Content], None]:
    def edit(content: Content) -> None:
        content["state"][f"{QUERY}.weight_quantizer.scale"][index] = value

    return edit


def _fill_a_group(content: Content) -> None:
    content["state"][f"{QUERY}.weight"][3, 8:11] = 1e-30


def _activation_scale(content: Content) -> None:
    content["state"]["bert.embeddings.LayerNorm.output_quantizer.scale"].fill_(torch.nan)


MODEL_FILES: dict[str, tuple[Callable[[Content], None], type[NxmiError], str]] = {
    "format": (
        _put("format", value="nxmi-export/2"),
        CheckpointError,
        "{path}: expected the format 'nxmi-export/1', found 'nxmi-export/2'; install the version "
        "of nxmi-export that wrote it",
    ),
    "missing parts": (
        _drop_parts,
        CheckpointError,
        _malformed("no recipe, state"),
    ),
    "config is a list": (
        _put("config", value=[]),
        CheckpointError,
        _malformed("a list as its config"),
    ),
    "state is a tensor": (
        _put("state", value=torch.ones(1)),
        CheckpointError,
        _malformed("a Tensor as its state"),
    ),
    "a weight is a list": (
        _put("state", "classifier.bias", value=[0.0, 0.0]),
        CheckpointError,
        _malformed("a list under 'classifier.bias' in its state"),
    ),
    "a tokenizer file is a text": (
        _put("tokenizer", "vocab.txt", value="[PAD]"),
        CheckpointError,
        _malformed("a str under 'vocab.txt' in its tokenizer"),
    ),
    "recipe key": (
        _put("recipe", "defualt", value="int8"),
        RecipeError,
        "{path}: expected known recipe keys, found the key 'defualt'; did you mean 'default'?",
    ),
    "architecture": (
        _put("architecture", value="os"),
        UnsupportedModel,
        "{path}: expected a sequence-classification model, found os; fine-tune an "
        "AutoModelForSequenceClassification from it and save that",
    ),
    "configuration of another family": (
        _put("config", "model_type", value="roberta"),
        CheckpointMismatch,
        "{path}: expected the model_type 'bert' of BertForSequenceClassification, found 'roberta'; "
        "save the model again with model.save_pretrained(directory)",
    ),
    "configuration with a wrong type": (
        _put("config", "hidden_size", value="wide"),
        CheckpointMismatch,
        "configuration: expected one that builds BertForSequenceClassification, found Validation "
        "error for field 'hidden_size': TypeError: Field 'hidden_size' expected int, got str "
        "(value: 'wide'); save the model again",
    ),
    "shape": (
        _put("state", WORDS, value=torch.zeros(95, 32)),
        CheckpointMismatch,
        f"{WEIGHTS}, found {WORDS} as float32 (95, 32) where float32 (96, 32) belongs; {FITTING}",
    ),
    "type": (
        _put("state", WORDS, value=torch.zeros(96, 32, dtype=torch.int64)),
        CheckpointMismatch,
        f"{WEIGHTS}, found {WORDS} as int64 (96, 32) where float32 (96, 32) belongs; {FITTING}",
    ),
    "missing weight": (
        _drop("state", "classifier.bias"),
        CheckpointMismatch,
        f"{WEIGHTS}, found 1 missing weights, the first being classifier.bias; {FITTING}",
    ),
    "unknown weight": (
        _put("state", "classifier.gain", value=torch.ones(1)),
        CheckpointMismatch,
        f"{WEIGHTS}, found 1 unknown weights, the first being classifier.gain; {FITTING}",
    ),
    "recipe of other weights": (
        _put("recipe", "default", value="dense"),
        CheckpointMismatch,
        f"{WEIGHTS}, found 32 unknown weights, the first being "
        f"bert.embeddings.LayerNorm.output_quantizer.scale; {FITTING}",
    ),
    "NaN scale": (
        _scale(torch.nan, index=5),
        InvalidScale,
        f"{QUERY}.weight_quantizer: expected positive finite scales, found nan at index 5; "
        "calibrate the model before saving it",
    ),
    "zero scale": (
        _scale(0.0),
        InvalidScale,
        f"{QUERY}.weight_quantizer: expected positive finite scales, found 0.0 at index 0; "
        "calibrate the model before saving it",
    ),
    "negative scale": (
        _scale(-0.5),
        InvalidScale,
        f"{QUERY}.weight_quantizer: expected positive finite scales, found -0.5 at index 0; "
        "calibrate the model before saving it",
    ),
    "infinite scale": (
        _scale(torch.inf),
        InvalidScale,
        f"{QUERY}.weight_quantizer: expected positive finite scales, found inf at index 0; "
        "calibrate the model before saving it",
    ),
    "activation that was never calibrated": (
        _activation_scale,
        InvalidScale,
        "bert.embeddings.LayerNorm.output_quantizer: expected positive finite scales, found nan at "
        "index 0; calibrate the model before saving it",
    ),
    "broken sparsity": (
        _fill_a_group,
        UnsupportedWeight,
        f"{QUERY}: expected 2:4 sparsity along in_features, found 3 non-zeros in group 2 of row 3; "
        "project the weights onto the pattern before saving them",
    ),
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_file(tmp_path_factory.mktemp("compressed") / "model.pt")


@pytest.fixture
def content(model_file: Path) -> Content:
    """What `model_file` holds, free to be edited: the file is mapped copy-on-write."""
    return load_mapping(model_file)


@pytest.mark.parametrize(("edit", "kind", "sentence"), MODEL_FILES.values(), ids=MODEL_FILES)
def test_a_wrong_model_file_is_refused_with_one_sentence(
    edit: Callable[[Content], None],
    kind: type[NxmiError],
    sentence: str,
    content: Content,
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.pt"
    edit(content)
    torch.save(content, path)
    with pytest.raises(kind) as caught:
        restore(read_checkpoint(str(path)))
    assert type(caught.value) is kind
    assert str(caught.value) == sentence.format(path=path)


def test_the_edits_above_start_from_a_good_file(model_file: Path, content: Content) -> None:
    _fill_a_group(content)  # of the mapping, not of the file
    restore(read_checkpoint(str(model_file)))


def _edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _config_text(text: str) -> Callable[[Path], object]:
    return lambda directory: (directory / "config.json").write_text(text)


def _without(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def _half(name: str) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        whole = (directory / name).read_bytes()
        (directory / name).write_bytes(whole[: len(whole) // 2])

    return edit


def _only_the_encoder(directory: Path) -> None:
    model = tiny_model()
    model.base_model.save_pretrained(directory)
    _edit_config(directory, architectures=["BertForSequenceClassification"])


def _truncated_bin(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    torch.save(tiny_model().state_dict(), directory / "pytorch_model.bin")
    _half("pytorch_model.bin")(directory)


DIRECTORIES: dict[str, tuple[Callable[[Path], object], type[NxmiError], str]] = {
    "no configuration": (
        _without("config.json"),
        CheckpointNotFound,
        "{path}: expected a Hugging Face directory with config.json, found no config.json in it; "
        "save the model with model.save_pretrained(directory)",
    ),
    "half a configuration": (
        _config_text('{"model_type": '),
        TruncatedCheckpoint,
        "{path}/config.json: expected JSON, found Expecting value: line 1 column 16 (char 15); "
        "save the model again",
    ),
    "a list as configuration": (
        _config_text("[]"),
        CheckpointError,
        "{path}/config.json: expected a JSON object, found a list; save the model again",
    ),
    "no weights": (
        _without("model.safetensors"),
        CheckpointNotFound,
        "{path}: expected model.safetensors or pytorch_model.bin beside config.json, found "
        "neither; save the model with model.save_pretrained(directory)",
    ),
    "half the weights": (
        _half("model.safetensors"),
        TruncatedCheckpoint,
        "{path}: expected whole weight files, found a damaged or missing part; copy or download "
        "the directory again",
    ),
    "half the weights, as a pickle": (
        _truncated_bin,
        TruncatedCheckpoint,
        "{path}: expected whole weight files, found a damaged or missing part; copy or download "
        "the directory again",
    ),
    "no trained head": (
        _only_the_encoder,
        CheckpointMismatch,
        "{path}: expected every weight of BertForSequenceClassification, found 2 missing, the "
        "first being classifier.bias; fine-tune the model on its task and save it first",
    ),
    "another width": (
        lambda directory: _edit_config(directory, vocab_size=97),
        CheckpointMismatch,
        "{path}: expected weights that fit BertForSequenceClassification, found "
        f"{WORDS} of shape (96, 32) where (97, 32) belongs; check that the weights belong to this "
        "config.json",
    ),
    "an encoder without a head": (
        lambda directory: _edit_config(directory, architectures=["BertModel"]),
        UnsupportedModel,
        "{path}: expected a sequence-classification model, found BertModel; fine-tune an "
        "AutoModelForSequenceClassification from it and save that",
    ),
    "no architecture": (
        lambda directory: _edit_config(directory, architectures=None),
        UnsupportedModel,
        "{path}: expected a sequence-classification model, found no architecture in config.json; "
        "fine-tune an AutoModelForSequenceClassification from it and save that",
    ),
    "an unknown activation": (
        lambda directory: _edit_config(directory, hidden_act="nope"),
        CheckpointMismatch,
        "{path}: expected a configuration that builds BertForSequenceClassification, found 'nope'; "
        "correct config.json or save the model again",
    ),
}


@pytest.mark.parametrize(("edit", "kind", "sentence"), DIRECTORIES.values(), ids=DIRECTORIES)
def test_a_wrong_directory_is_refused_with_one_sentence(
    edit: Callable[[Path], object], kind: type[NxmiError], sentence: str, tmp_path: Path
) -> None:
    edit(write_hugging_face(tmp_path))
    with pytest.raises(kind) as caught:
        read_checkpoint(str(tmp_path))
    assert type(caught.value) is kind
    assert str(caught.value) == sentence.format(path=tmp_path)


@pytest.mark.parametrize("model", ["model.pt", "./no/such", "~/model", "a/b/c", "weights.bin"])
def test_a_missing_path_is_refused(model: str, tmp_path: Path, in_empty_folder: None) -> None:
    with pytest.raises(CheckpointNotFound) as caught:
        read_checkpoint(model)
    assert str(caught.value) == (
        f"{model}: expected a model file, a Hugging Face directory or a hub name, found nothing at "
        "this path; check the spelling and the working directory"
    )


def _unreachable(model: str, found: str) -> str:
    return (
        f"{model}: expected a local path or a hub model that can be reached, found {found}; "
        "check the name, the network and HF_HUB_OFFLINE, or download it first"
    )


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("nobody/nothing", "nothing on disk, and the hub did not answer"),
        ("nobody/nothing-v1.5", "nothing on disk, and the hub did not answer"),
        ("two words", "nothing on disk, and no name that the hub can have"),
    ],
)
def test_a_hub_name_that_cannot_be_reached_is_refused(
    model: str, found: str, in_empty_folder: None
) -> None:
    with pytest.raises(CheckpointNotFound) as caught:
        read_checkpoint(model)
    assert str(caught.value) == _unreachable(model, found)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (
            RepositoryNotFoundError("404", response=Mock()),
            "nothing on disk, and nothing on the hub that may be read",
        ),
        (
            PermissionError(13, "Permission\ndenied"),
            "PermissionError: [Errno 13] Permission denied",
        ),
    ],
)
def test_what_the_hub_answers_is_said(
    answer: Exception, found: str, in_empty_folder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str, **options: object) -> None:
        raise answer

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(CheckpointNotFound) as caught:
        read_checkpoint("nobody/nothing")
    assert str(caught.value) == _unreachable("nobody/nothing", found)


@pytest.mark.parametrize("kind", ["file", "directory", "hub name"])
def test_a_base_that_would_be_ignored_is_refused(
    kind: str, model_file: Path, tmp_path: Path
) -> None:
    model, owner = {
        "file": (str(model_file), "compressed checkpoint"),
        "directory": (str(write_hugging_face(tmp_path)), "Hugging Face model"),
        "hub name": ("nobody/nothing", "Hugging Face model"),
    }[kind]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(model, base="nobody/else")
    assert str(caught.value) == (
        f"{model}: expected --base only with a bare state dict, found a {owner}, which has a "
        "configuration of its own; leave --base out"
    )


def test_the_hash_of_a_directory_is_that_of_its_parts(tmp_path: Path) -> None:
    write_hugging_face(tmp_path)
    parts = ("config.json", "model.safetensors")
    lines = [f"{checkpoint_sha256(tmp_path / name)}  {name}\n" for name in parts]
    whole = checkpoint_sha256(tmp_path)
    assert whole == hashlib.sha256("".join(lines).encode()).hexdigest()
    (tmp_path / "README.md").write_text("A note decides nothing.")
    assert checkpoint_sha256(tmp_path) == whole
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    assert checkpoint_sha256(tmp_path) != whole


STATE_DICTS: dict[str, tuple[object, str]] = {
    "no base": (
        {"classifier.bias": torch.zeros(2)},
        "expected a configuration beside the weights, found a bare state dict; pass --base with "
        "the directory or hub name it was trained from",
    ),
    "training state": (
        {"classifier.bias": torch.zeros(2), "epoch": 3},
        "expected a compressed checkpoint or a state dict of tensors, found the key 'epoch' with a "
        "int; save model.state_dict()",
    ),
    "numbered": (
        {0: torch.zeros(2)},
        "expected a compressed checkpoint or a state dict of tensors, found the key 0 with a "
        "Tensor; save model.state_dict()",
    ),
    "one tensor": (
        torch.zeros(2),
        "expected a dictionary of tensors, found Tensor; save model.state_dict() or a compressed "
        "checkpoint",
    ),
}


@pytest.mark.parametrize(("content", "sentence"), STATE_DICTS.values(), ids=STATE_DICTS)
def test_what_is_no_state_dict_is_refused(content: object, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(str(path))
    assert str(caught.value) == f"{path}: {sentence}"


def test_a_state_dict_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(tiny_model("distilbert").state_dict(), path)
    checkpoint = read_checkpoint(str(path), base=str(write_hugging_face(tmp_path / "base")))
    with pytest.raises(CheckpointMismatch, match="found 39 missing weights, the first being bert"):
        restore(checkpoint)


def test_buffers_that_older_releases_saved_are_no_unknown_weights(model_file: Path) -> None:
    checkpoint = read_checkpoint(str(model_file))
    ids = {"bert.embeddings.position_ids": torch.arange(64)[None]}
    restore(replace(checkpoint, state={**checkpoint.state, **ids}))


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
