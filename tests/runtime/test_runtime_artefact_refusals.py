"""What is wrong with an artefact that is to be deployed, each in one sentence."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nxmi_export
from nxmi_export.artefact import CPU_MODEL, MANIFEST, WEIGHTS, Manifest, read_artefact
from nxmi_export.errors import ArtefactError, CapabilityMissing
from nxmi_export.runtime.served_files import FORMAT, ServedFiles
from nxmi_export.runtime.text_encoder import TextEncoder
from tests.pipeline.parity_project import Project


def edit_manifest(artefact: Path, **facts: Any) -> None:
    """As another program might: no check in between; None takes a fact away."""
    path = artefact / MANIFEST
    content = json.loads(path.read_text()) | facts
    path.write_text(json.dumps({name: each for name, each in content.items() if each is not None}))


def sentence(error: type[Exception], *arguments: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        nxmi_export.load(*arguments, **options)
    return str(caught.value)


def test_a_missing_directory_is_refused_as_every_command_refuses_it(tmp_path: Path) -> None:
    found = sentence(ArtefactError, tmp_path / "none")
    assert found == (
        f"{tmp_path / 'none'}: expected an artefact directory with manifest.json, found No such "
        "file or directory; make one with nxmi-export MODEL -o DIRECTORY"
    )
    with pytest.raises(ArtefactError, match=f"^{re.escape(found)}$"):
        read_artefact(tmp_path / "none")


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    assert "with manifest.json, found Not a directory; make one" in sentence(
        ArtefactError, str(tmp_path / "model.onnx")
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "no JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[]", "a list"),
        ('{"name": "a web application"}', f"format None instead of {FORMAT!r}"),
        ('{"format": "nxmi-export/artefact/2"}', "format 'nxmi-export/artefact/2' instead of "),
    ],
)
def test_a_foreign_manifest_is_refused(content: str, found: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(content)
    said = sentence(ArtefactError, tmp_path)
    assert said.startswith(
        f"{tmp_path / MANIFEST}: expected a manifest that this version reads, found {found}"
    )
    assert said.endswith("; export the model again")


@pytest.mark.parametrize(
    ("fact", "value", "found"),
    [
        ("labels", None, "no labels"),
        ("labels", [], "labels []"),
        ("labels", [1, 2], "labels [1, 2]"),
        ("input_names", "input_ids", "input_names 'input_ids'"),
        ("position_limit", 0, "position_limit 0"),
        ("position_limit", True, "position_limit True"),
        ("session_options", None, "no session_options"),
        ("session_options", {"a": 1}, "session_options {'a': 1}"),
        ("provenance", [], "provenance []"),
        ("files", {"model.onnx": "aa"}, "files {'model.onnx': 'aa'}"),
    ],
)
def test_a_manifest_with_an_unfit_fact_is_refused(
    fact: str, value: Any, found: str, copy: Project
) -> None:
    edit_manifest(copy.artefact, **{fact: value})
    assert sentence(ArtefactError, copy.artefact) == (
        f"{copy.artefact / MANIFEST}: expected a manifest that this version reads, found {found}; "
        "export the model again"
    )


def test_both_readers_of_a_manifest_read_one_format() -> None:
    assert Manifest.model_fields["format"].default == FORMAT


@pytest.mark.parametrize(
    "name", [CPU_MODEL, WEIGHTS, "tokenizer.json", "tokenizer_config.json", "config.json"]
)
def test_a_file_that_changed_is_refused(name: str, copy: Project) -> None:
    path = copy.artefact / name
    expected = Manifest.read(copy.artefact).files[name].sha256[:12]
    path.write_bytes(path.read_bytes() + b" ")
    assert sentence(ArtefactError, copy.artefact) == (
        f"{path}: expected the file with SHA-256 {expected}…, found other contents; export the "
        "model again, or restore the file"
    )


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_a_file_that_is_gone_is_refused(name: str, copy: Project) -> None:
    (copy.artefact / name).unlink()
    assert sentence(ArtefactError, copy.artefact) == (
        f"{copy.artefact / name}: expected every file of the manifest that is read, found No such "
        "file or directory; export the model again, or restore the file"
    )


def test_files_that_are_not_read_may_be_left_out_of_an_image(copy: Project) -> None:
    (copy.artefact / "model.onnx").unlink()
    with nxmi_export.load(copy.artefact) as model:
        assert len(model.predict(["a fine film"])) == 1


def test_an_artefact_without_a_fast_tokenizer_says_how_to_get_one(copy: Project) -> None:
    (copy.artefact / "tokenizer.json").unlink()
    files = Manifest.read(copy.artefact).files
    edit_manifest(
        copy.artefact,
        files={name: dict(each) for name, each in files.items() if name != "tokenizer.json"},
    )
    assert sentence(ArtefactError, copy.artefact) == (
        f"{copy.artefact}: expected an artefact with tokenizer.json, for texts to be encoded "
        "without transformers, found none; save a fast tokenizer beside the model with "
        "tokenizer.save_pretrained, and export it again"
    )


def test_a_tokenizer_that_does_not_read_is_refused(
    copy: Project, changed: Callable[..., Path]
) -> None:
    (copy.artefact / "tokenizer.json").write_text('{"model": 1}')
    said = sentence(ArtefactError, changed())
    assert said.startswith(
        f"{copy.artefact / 'tokenizer.json'}: expected a tokenizer that the library tokenizers "
        "reads, found "
    )
    assert said.endswith("; export the model again, or update tokenizers")


def test_a_padding_token_outside_the_vocabulary_is_refused(
    copy: Project, changed: Callable[..., Path]
) -> None:
    path = copy.artefact / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "<pad>"}))
    assert sentence(ArtefactError, changed()) == (
        f"{copy.artefact / 'tokenizer.json'}: expected the padding token '<pad>' in the "
        "vocabulary, found none; save the tokenizer with tokenizer.save_pretrained and export again"
    )


def test_side_files_that_are_no_objects_are_refused(
    copy: Project, changed: Callable[..., Path]
) -> None:
    (copy.artefact / "tokenizer_config.json").write_text("[]")
    assert sentence(ArtefactError, changed()) == (
        f"{copy.artefact / 'tokenizer_config.json'}: expected a JSON object, found none; export "
        "the model again"
    )


def test_a_graph_that_does_not_load_is_refused(copy: Project, changed: Callable[..., Path]) -> None:
    (copy.artefact / CPU_MODEL).write_bytes(b"no graph")
    said = sentence(ArtefactError, changed())
    assert said == (
        f"{copy.artefact / CPU_MODEL}: expected a readable ONNX model, found no protobuf; export "
        "the model again, or restore the file"
    )
    (copy.artefact / CPU_MODEL).write_bytes(b"")
    said = sentence(ArtefactError, changed())
    assert said.startswith(
        f"{copy.artefact / CPU_MODEL}: expected a model that onnxruntime can load, found "
    )


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"model_type": "bert", "max_position_embeddings": "many"}']
)
def test_a_configuration_that_cannot_be_read_is_refused(copy: Project, content: str) -> None:
    (copy.artefact / "config.json").write_text(content)
    copy.change()
    said = sentence(ArtefactError, copy.artefact)
    assert said.startswith(f"{copy.artefact / 'config.json'}: expected ")


@pytest.mark.parametrize("fact", ["packed", "tuning", "embeddings"])
def test_what_a_report_is_bound_to_is_what_a_server_reads(copy: Project, fact: str) -> None:
    """Also where an earlier version wrote the manifest, which did not know of a fact."""
    edit_manifest(copy.artefact, **{fact: None})
    manifest, served = Manifest.read(copy.artefact), ServedFiles.read(copy.artefact)
    assert manifest.facts_sha256 == served.facts_sha256


@pytest.mark.parametrize(
    ("configuration", "facts", "said"),
    [
        (
            {"id2label": {"0": "bad", "1": "so-so", "2": "good"}},
            {"labels": ("bad", "so-so", "good")},
            "a graph with 3 logits, one for each label, found 2",
        ),
        (
            {"model_type": "distilbert"},
            {"input_names": ("input_ids", "attention_mask")},
            "a graph with the inputs input_ids, attention_mask, "
            "found input_ids, attention_mask, token_type_ids",
        ),
    ],
)
def test_a_graph_with_another_interface_is_refused(
    configuration: dict[str, Any], facts: dict[str, Any], said: str, copy: Project
) -> None:
    copy.configure(**configuration)
    copy.change(**facts)
    artefact = copy.artefact
    assert sentence(ArtefactError, artefact) == (
        f"{artefact / CPU_MODEL}: expected {said}; export the model again"
    )


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {"labels": ("positive", "negative")},
            'labels of config.json, ["LABEL_0", "LABEL_1"], found ["positive", "negative"]',
        ),
        (
            {"input_names": ("input_ids", "attention_mask")},
            'input_names of config.json, ["input_ids", "attention_mask", "token_type_ids"], found '
            '["input_ids", "attention_mask"]',
        ),
        ({"position_limit": 8}, "position_limit of config.json, 64, found 8"),
    ],
)
def test_a_manifest_that_says_otherwise_than_the_configuration_is_refused(
    facts: dict[str, Any], said: str, changed: Callable[..., Path]
) -> None:
    artefact = changed(**facts)
    assert sentence(ArtefactError, artefact) == (
        f"{artefact / 'manifest.json'}: expected the {said}; export the model again, or restore "
        "the file"
    )


def test_an_input_that_no_tokenizer_makes_is_refused(sst2: Project) -> None:
    files = {
        name: (sst2.artefact / name).read_bytes() for name in ("tokenizer.json", "config.json")
    }
    with pytest.raises(ArtefactError) as caught:
        TextEncoder(sst2.artefact, files, input_names=("input_ids", "bbox"), max_length=8)
    assert str(caught.value) == (
        f"{sst2.artefact}: expected a model whose inputs are among input_ids, attention_mask, "
        "token_type_ids, found bbox; run the graph with onnxruntime itself"
    )


def test_weights_that_the_manifest_does_not_list_are_refused(copy: Project) -> None:
    files = Manifest.read(copy.artefact).files
    copy.change()
    manifest = Manifest.read(copy.artefact)
    listed = {name: each for name, each in files.items() if name != WEIGHTS}
    manifest.model_copy(update={"files": listed}).write(copy.artefact)
    said = sentence(ArtefactError, copy.artefact)
    assert said.startswith(f"{copy.artefact}: expected an artefact with {WEIGHTS}, found ")
    with pytest.raises(ArtefactError) as caught:
        read_artefact(copy.artefact)
    assert str(caught.value) == (
        f"{copy.artefact / CPU_MODEL}: expected a graph whose tensors lie in files that the "
        f"manifest lists, found one that reads {WEIGHTS}; export the model again"
    )


def test_a_graph_that_the_artefact_lacks_is_refused(sst2: Project) -> None:
    said = sentence(ArtefactError, sst2.artefact, file="model.fp16.onnx")
    assert said.startswith(f"{sst2.artefact}: expected an artefact with model.fp16.onnx, found ")
    assert said.endswith("; export the model again, or name another file")


@pytest.mark.parametrize("library", ["onnxruntime", "tokenizers"])
def test_a_missing_library_is_named(
    library: str, sst2: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert sentence(CapabilityMissing, sst2.artefact) == (
        f"{library}: expected an installation that loads, found import of {library} halted; None "
        f"in sys.modules; run `pip install {library}`"
    )
