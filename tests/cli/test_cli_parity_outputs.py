"""Where `nxmi-export parity` and `bench` write: never over the artefact, and whatever a path is."""

import json
import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from nxmi_export.artefact import Manifest, file_record, read_artefact
from nxmi_export.cli.console import write_text
from nxmi_export.cli.parity_files import check_writable
from nxmi_export.errors import OutputError
from tests.cli.command_lines import Command, Outcome
from tests.pipeline.parity_project import Project, sst2_project

# As Python has a name in Latin-1, which no UTF-8 holds.
LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module")
def sst2(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("outputs"))


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("-o", "manifest.json"),
        ("--html", "model.onnx"),
        ("--junit", "model.cpu.onnx"),
        ("--markdown", "tokenizer.json"),
    ],
)
def test_a_result_over_a_file_of_the_artefact_is_refused_before_the_work(
    nxmi_export: Command, sst2: Project, option: str, name: str
) -> None:
    path = sst2.artefact / name
    before = path.read_bytes()
    outcome = nxmi_export("parity", sst2.artefact, "--task", "sst2", option, path)
    assert (outcome.code, outcome.sentence) == (2, _own(path, name, option))
    assert path.read_bytes() == before


def test_links_and_folders_between_do_not_hide_a_file_of_the_artefact(
    sst2: Project, tmp_path: Path
) -> None:
    artefact = read_artefact(sst2.artefact)
    (tmp_path / "link.json").symlink_to(sst2.artefact / "manifest.json")
    (tmp_path / "folder").symlink_to(sst2.artefact)
    up = sst2.artefact / ".." / "model.artefact"
    for path, name in (
        (tmp_path / "link.json", "manifest.json"),
        (tmp_path / "folder" / "model.onnx", "model.onnx"),
        (up / "model.onnx.data", "model.onnx.data"),
    ):
        with pytest.raises(OutputError) as error:
            check_writable({"-o": path}, artefact)
        assert str(error.value) == _own(path, name, "-o")


@pytest.mark.parametrize(
    ("output", "name", "option"),
    [
        ("model.onnx", "model.onnx", "-o"),
        ("picture.json", "picture.svg", "-o, the picture beside it"),
        ("bench.json", "profile_model.json", "-o, the layer times beside it"),
    ],
)
def test_bench_writes_over_no_file_of_the_artefact_either(
    nxmi_export: Command, sst2: Project, tmp_path: Path, output: str, name: str, option: str
) -> None:
    project = sst2.copy(tmp_path / "copy")
    path = project.artefact / name
    if not path.exists():
        path.write_text("one of the artefact's")
        manifest = Manifest.read(project.artefact)
        files = manifest.files | {name: file_record(path)}
        manifest.model_copy(update={"files": files}).write(project.artefact)
    before = path.read_bytes()
    outcome = nxmi_export("bench", project.artefact, "-o", project.artefact / output)
    assert (outcome.code, outcome.sentence) == (2, _own(path, name, option))
    assert path.read_bytes() == before


def _own(path: Path, name: str, option: str) -> str:
    return (
        f"{path}: expected a file that is no part of the artefact, found its {name}; choose "
        f"another with {option}"
    )


STALE = "# 1 of 12 layers stay dense, found by bisection.\n"


def _bisect(nxmi_export: Command, project: Project, *more: object) -> Outcome:
    return nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data, "--limit", 12),
        *("--bisect", *more),
    )


def test_a_recipe_of_an_earlier_run_that_this_one_refutes_is_deleted(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    whole = project.artefact / "exclusions-sst2.yaml"  # not of a trial: --limit
    stale = whole.with_name("exclusions-sst2-limit-12.yaml")
    for path in (whole, stale):
        path.write_text(STALE)
    outcome = _bisect(nxmi_export, project, "--max-drop", 1)
    assert outcome.code == 0, outcome.err
    assert "none needed" in outcome.out
    assert "a recipe in" not in outcome.out
    assert f"deleted the recipe of an earlier run, {stale}\n" in outcome.out
    assert not stale.exists()
    assert whole.read_text() == STALE
    outcome = _bisect(nxmi_export, project, "--max-drop", 1)
    assert not re.search("a recipe in|deleted the recipe", outcome.out)


def test_a_search_that_found_nothing_yet_leaves_an_earlier_recipe_and_announces_none(
    nxmi_export: Command, sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an early Ctrl-C."""
    project = sst2.copy(tmp_path / "copy")
    stale = project.artefact / "exclusions-sst2-limit-12.yaml"
    stale.write_text(STALE)
    monkeypatch.setattr("nxmi_export.workflow.parity.run.bisection", lambda *arguments: None)
    outcome = _bisect(nxmi_export, project)
    assert outcome.code == 0, outcome.err
    assert not re.search("a recipe in|deleted the recipe", outcome.out)
    assert stale.read_text() == STALE


def test_files_whose_paths_are_no_utf8_are_written_and_named(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    place = tmp_path / LATIN
    place.mkdir()
    names = {"-o": "run.json", "--html": "run.html", "--junit": "run.xml", "--markdown": "run.md"}
    outcome = nxmi_export(
        *("parity", sst2.artefact, "--task", "sst2", "--data", sst2.data, "--limit", 8),
        *(each for option, name in names.items() for each in (option, place / name)),
    )
    assert outcome.code == 0
    assert outcome.err == (
        "warning: sst2 validation was read no further than its first 8 examples (--limit).\n"
    )
    assert f"everything in {tmp_path}/caf\\udce9/run.json\n" in outcome.out
    assert json.loads((place / "run.json").read_text())["ok"]
    assert (place / "run.html").read_text("utf-8").startswith("<!doctype html>")
    assert (place / "run.md").read_text("utf-8").startswith("# Parity passed")
    ET.fromstring((place / "run.xml").read_bytes())


def test_a_trial_does_not_take_the_place_of_the_whole_run(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    arguments = ("parity", project.artefact, "--task", "sst2", "--data", project.data)
    whole = [project.artefact / name for name in ("parity-sst2.json", "report.html")]
    for path in whole:
        path.write_text("of all examples")
    outcome = nxmi_export(*arguments, "--limit", 8)
    assert outcome.code == 0, outcome.err
    assert [path.read_text() for path in whole] == ["of all examples"] * 2
    trial = json.loads((project.artefact / "parity-sst2-limit-8.json").read_text())
    told = "sst2 validation was read no further than its first 8 examples (--limit)."
    assert (trial["limit"], trial["warnings"]) == (8, [told])
    assert told in (project.artefact / "report-limit-8.html").read_text()


def test_what_utf8_cannot_hold_is_written_as_an_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "a.md", f"{LATIN}: é\n")
    assert (tmp_path / "a.md").read_bytes() == "caf\\udce9: é\n".encode()


def test_an_artefact_that_onnxruntime_could_not_open_is_refused(
    nxmi_export: Command, tmp_path: Path
) -> None:
    outcome = nxmi_export("parity", tmp_path / LATIN, "--task", "sst2")
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{tmp_path}/caf\\udce9: expected a path in UTF-8, for onnxruntime opens no other, found "
        "bytes that are not UTF-8; rename the folder",
    )


def test_a_model_file_that_torch_could_not_open_is_refused(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    path = shutil.copy(sst2.folder / "model.pt", tmp_path / f"{LATIN}.pt")
    outcome = nxmi_export("export", path, "-o", tmp_path / "artefact")
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{tmp_path}/caf\\udce9.pt: expected a path in UTF-8, for torch opens no other, found "
        "bytes that are not UTF-8; rename the file or its folder",
    )
    assert not (tmp_path / "artefact").exists()
