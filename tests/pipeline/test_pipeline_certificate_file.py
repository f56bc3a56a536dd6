"""The certificate as a file: it reads back, and goes stale with what it speaks of."""

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from nxmi_export.artefact import MANIFEST, Artefact, read_artefact
from nxmi_export.artefact.manifest import Manifest
from nxmi_export.certificate import read_certificate
from nxmi_export.errors import ArtefactError, OutputError
from nxmi_export.recipe import Placement
from nxmi_export.sole_writer import sole_writer
from tests.pipeline.certified_artefacts import (
    UP,
    as_listed,
    certified,
    copied,
    rebound,
    write_code,
)
from tests.pipeline.engine_files import (
    Log,
    with_engine,
)
from tests.pipeline.exports import ENCODER_LINEARS, Exported


@pytest.fixture
def sparse(export_of: Callable[[Placement], Exported], tmp_path: Path) -> Artefact:
    return copied(export_of(Placement.SPARSE), tmp_path)


def test_a_recipe_in_the_manifest_that_is_not_the_checkpoints_is_refused(sparse: Artefact) -> None:
    recipe = {**(sparse.manifest.recipe or {}), "placement": "linear"}
    sparse.manifest.model_copy(update={"recipe": recipe}).write(sparse.directory)
    with pytest.raises(ArtefactError) as caught:
        certified(read_artefact(sparse.directory))
    assert str(caught.value) == (
        f"{sparse.directory / MANIFEST}: expected the recipe of the checkpoint, whose placement is "
        '"sparse", found "linear"; export it again'
    )


def test_labels_that_are_not_the_checkpoints_are_refused(sparse: Artefact) -> None:
    labels = tuple(reversed(sparse.manifest.labels))
    sparse.manifest.model_copy(update={"labels": labels}).write(sparse.directory)
    with pytest.raises(ArtefactError, match="expected the checkpoint's labels LABEL_0, LABEL_1"):
        certified(read_artefact(sparse.directory))
    assert not (sparse.directory / "certificate.json").exists()


def test_the_certificate_is_a_file_of_the_artefact_and_reads_back(sparse: Artefact) -> None:
    certificate = certified(with_engine(sparse, Log().text))
    artefact = read_artefact(sparse.directory)
    assert read_certificate(artefact) == certificate
    facts = json.loads((sparse.directory / "certificate.json").read_text())
    assert facts["schema"] == "nxmi-export/certificate/4"
    assert facts["totals"]["mask"] == {
        "proved": ENCODER_LINEARS,
        "refuted": 0,
        "unproven": 0,
        "not claimed": 0,
    }
    assert facts["files"].keys() == artefact.manifest.files.keys() - {"certificate.json"}
    assert facts["files"].keys() >= {"model.plan", "config.json", "layers_model.json"}
    assert facts["checkpoint"] == {
        "path": "../model.pt",
        "sha256": artefact.manifest.source.sha256,
    }


def stale(directory: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        read_certificate(read_artefact(directory))
    subject = (
        f"{directory / 'certificate.json'}: expected a certificate of the files as they are now"
    )
    message = str(caught.value)
    assert message.startswith(f"{subject}, found one ")
    assert message.endswith("; certify the artefact again")
    return message.removeprefix(f"{subject}, found one ").removesuffix(
        "; certify the artefact again"
    )


def test_a_good_certificate_does_not_go_with_other_weights(sparse: Artefact) -> None:
    certificate = certified(sparse)
    write_code(sparse, UP, (0, 0), 99)
    rebound(as_listed(sparse))
    digest = certificate.files["model.onnx.data"][:12]
    assert stale(sparse.directory) == (
        f"of model.onnx.data with SHA-256 {digest}…, which has changed"
    )


def test_an_engine_that_came_later_makes_the_certificate_stale(sparse: Artefact) -> None:
    certified(sparse)
    with_engine(read_artefact(sparse.directory), Log().text)
    assert stale(sparse.directory) == "that does not know build.log"


def test_an_engine_that_went_makes_the_certificate_stale(sparse: Artefact) -> None:
    certified(with_engine(sparse, Log().text))
    manifest = read_artefact(sparse.directory).manifest
    files = {name: each for name, each in manifest.files.items() if name != "model.plan"}
    manifest.model_copy(update={"files": files}).write(sparse.directory)
    assert stale(sparse.directory) == "of model.plan, which the artefact no longer has"


def test_another_checkpoint_makes_the_certificate_stale(sparse: Artefact) -> None:
    certificate = certified(sparse)
    path = sparse.directory.parent / "model.pt"
    path.write_bytes(b"another")
    assert certificate.checkpoint is not None
    digest = certificate.checkpoint.sha256[:12]
    found = f"of {sparse.directory / '../model.pt'} with SHA-256 {digest}…, which has changed"
    assert stale(sparse.directory) == found


def test_totals_that_were_edited_are_refused(sparse: Artefact) -> None:
    certified(sparse)
    path = sparse.directory / "certificate.json"
    facts = json.loads(path.read_text())
    facts["answer"] = "proved"
    path.write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match="found totals that are not those of its cells"):
        read_certificate(rebound(as_listed(sparse)))


def test_an_artefact_without_a_certificate_says_so(sparse: Artefact) -> None:
    with pytest.raises(ArtefactError, match=r"expected an artefact with certificate\.json"):
        read_certificate(sparse)


def test_an_interruption_leaves_the_artefact_whole(
    sparse: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if target == sparse.directory / "certificate.json":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        certified(sparse)
    assert read_artefact(sparse.directory).manifest.files == sparse.manifest.files
    assert not (sparse.directory / "certificate.json").exists()


def test_an_interruption_behind_the_last_step_leaves_the_artefact_whole(
    sparse: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Manifest.write, list[Path]()

    def interrupted(manifest: Manifest, directory: Path) -> None:
        write(manifest, directory)
        written.append(directory)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        certified(sparse)
    assert read_artefact(sparse.directory).manifest.files == sparse.manifest.files
    assert not (sparse.directory / "certificate.json").exists()


def test_a_certificate_of_what_another_process_has_replaced_is_not_written(
    sparse: Artefact,
) -> None:
    built = with_engine(sparse, Log().text)
    with pytest.raises(ArtefactError) as caught:
        certified(sparse)  # as it was read before that build ended
    assert str(caught.value) == (
        f"{sparse.directory / MANIFEST}: expected the manifest that the work began with, found "
        "another, which some other process has written since; run the command again"
    )
    assert read_artefact(sparse.directory).manifest == built.manifest


def test_a_build_keeps_the_certificate_that_came_meanwhile_which_is_stale(
    sparse: Artefact,
) -> None:
    certified(sparse)
    built = with_engine(sparse, Log().text)  # as it was read before there was a certificate
    assert {"certificate.json", "model.plan"} <= built.manifest.files.keys()
    assert stale(sparse.directory) == "that does not know build.log"


def test_files_are_replaced_by_one_process_at_a_time(
    sparse: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("nxmi_export.artefact.replace_files")  # of a function's name
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    before = (sparse.directory / MANIFEST).read_bytes()
    with (
        sole_writer(sparse.directory / MANIFEST),
        pytest.raises(OutputError, match=r"no other process is writing.*; run the command again"),
    ):
        certified(sparse)
    assert (sparse.directory / MANIFEST).read_bytes() == before
    certified(sparse)
    hidden = [path.name for path in sparse.directory.iterdir() if path.name.startswith(".")]
    assert hidden == []
