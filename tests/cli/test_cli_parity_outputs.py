"""Where `nxmi-export parity` and `bench` write: never over the artefact, and whatever a path is."""

import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from nxmi_export.cli.console import write_text
from tests.cli.command_lines import Command
from tests.pipeline.parity_project import Project, sst2_project

# As Python has a name in Latin-1, which no UTF-8 holds.
LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module")
def sst2(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("outputs"))


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
    assert outcome.err == ""
    assert f"everything in {tmp_path}/caf\\udce9/run.json\n" in outcome.out
    assert json.loads((place / "run.json").read_text())["ok"]
    assert (place / "run.html").read_text("utf-8").startswith("<!doctype html>")
    assert (place / "run.md").read_text("utf-8").startswith("# Parity passed")
    ET.fromstring((place / "run.xml").read_bytes())


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
