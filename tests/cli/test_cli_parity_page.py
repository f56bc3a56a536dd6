"""`nxmi-export parity` leaves a page beside its JSON: where, when, and how to make it again."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.artefact import (
    FP16_MODEL,
    INT4_MODEL,
    MANIFEST,
    MODEL,
    PackedRecord,
    read_artefact,
    sha256_of,
)
from nxmi_export.bench import measure_peaks, read_bench
from nxmi_export.cli.parity_again import commands_again
from nxmi_export.cli.parity_files import check_writable
from nxmi_export.errors import ArtefactError, OutputError
from nxmi_export.glue import task_named
from nxmi_export.latency import LinearShape
from nxmi_export.workflow.parity import ParityRequest
from tests.cli.command_lines import Command
from tests.html_reader import Element, read_html
from tests.pipeline.parity_project import Project, sst2_project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("a project"))


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return made.copy(tmp_path / "a project")


def read(path: Path) -> Element:
    return read_html(path.read_text(encoding="utf-8"))


def test_the_page_lies_in_the_artefact_and_is_no_part_of_it(
    nxmi_export: Command, project: Project
) -> None:
    manifest = (project.artefact / MANIFEST).read_bytes()
    outcome = nxmi_export("parity", project.artefact, "--task", "sst2", "--data", project.data)
    page = project.artefact / "report.html"
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith(f"a page in {page}\n")
    assert read(page).all("h1")[0].text == "✓ Parity passed"
    assert (project.artefact / MANIFEST).read_bytes() == manifest
    assert "report.html" not in read_artefact(project.artefact).manifest.files


def test_the_page_can_be_put_elsewhere(nxmi_export: Command, project: Project) -> None:
    place = project.folder / "page.html"
    outcome = nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data, "--html", place)
    )
    assert outcome.code == 0
    assert read(place).all("section")
    assert not (project.artefact / "report.html").exists()


def test_a_run_that_fails_has_a_page_that_says_so(nxmi_export: Command, project: Project) -> None:
    arguments = ("--task", "sst2", "--data", project.data, "--strict")
    assert nxmi_export("parity", project.artefact, *arguments).code == 1
    page = read(project.artefact / "report.html")
    assert page.all("h1")[0].text == "✗ Parity failed"
    assert "This dev set cannot certify a drop below" in page.all("header")[0].text


def test_the_dense_model_is_the_first_rung_of_the_picture(
    nxmi_export: Command, project: Project
) -> None:
    dense = ("--dense", project.folder / "model.pt")
    arguments = ("--task", "sst2", "--data", project.data, *dense)
    assert nxmi_export("parity", project.artefact, *arguments).code == 0
    picture = read(project.artefact / "report.html").all("svg")[0]
    boxes = [each.text for each in picture.all("text", class_="name")]
    assert boxes[:4] == ["PyTorch", "dense", "PyTorch", "compressed"]
    assert "TensorRT engine: not built." in picture.all("desc")[0].text


def test_the_page_shows_the_certificate_or_why_it_is_not_valid(
    nxmi_export: Command, project: Project
) -> None:
    arguments = ("parity", project.artefact, "--task", "sst2", "--data", project.data)
    # TensorRT fuses no heads of 8 channels: the linter says so, and its claim is refuted.
    assert nxmi_export("certify", project.artefact).code == 1
    nxmi_export(*arguments)  # whatever the gate says of so few examples
    assert "Everything together: refuted (no engine)." in certificate_of(project)
    with (project.artefact / "config.json").open("a") as file:
        file.write("\n")
    project.change()
    nxmi_export(*arguments)
    assert "? No valid certificate: expected a certificate of the files" in certificate_of(project)


def test_the_page_shows_what_bench_measured_of_these_files(
    nxmi_export: Command, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_peaks, "SHAPES", (LinearShape(256, 256),))
    arguments = ("parity", project.artefact, "--task", "sst2", "--data", project.data)
    quick = ("--shapes", "1x4", "--rounds", 3, "--seconds", 0, "--threads", 1, "--no-memory")
    texts = ("--task", "sst2", "--data", project.data, "--texts", 20)
    outcome = nxmi_export("bench", project.artefact, *quick, *texts)
    assert outcome.code == 0, outcome.err
    stored = project.artefact / "bench.json"
    by_length, plain = json.loads(stored.read_text())["texts"]
    assert (by_length["examples"], by_length["tokens"]) == (20, plain["tokens"])
    assert by_length["padded_tokens"] < plain["padded_tokens"] == 20 * 64
    assert by_length["source"] == "20 of sst2 validation"
    for found in (by_length, plain):
        times = found["results"]["onnxruntime"]
        assert times["examples_per_second"] == pytest.approx(20 / times["call"]["p50"])
    assert "32 a batch, padded to 64 tokens" in " ".join(outcome.out.split())
    assert nxmi_export(*arguments).code == 0
    assert "Batch 1 x 4 tokens" in section_of(project, "Latencies")
    assert "20 of sst2 validation" in section_of(project, "Latencies")
    stored.write_text(stored.read_text().replace(sha256_of(project.artefact / MODEL), "0" * 64))
    assert nxmi_export(*arguments).code == 0
    assert (
        "? No latencies: expected times of the artefact's model files as they are now, found "
        "those of other files: model.onnx; run nxmi-export bench again."
    ) in section_of(project, "Latencies")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{}", "another schema"),
        ("{", "Expecting property name"),
        ('{"schema": "nxmi-export/bench/3", "artefact": []}', "no hashes of files"),
    ],
)
def test_a_damaged_bench_file_is_told_by_its_reader(
    project: Project, content: str, found: str
) -> None:
    (project.artefact / "bench.json").write_text(content)
    with pytest.raises(ArtefactError) as caught:
        read_bench(read_artefact(project.artefact))
    assert caught.value.found.startswith(found)
    assert caught.value.remedy == "run nxmi-export bench again"


def certificate_of(project: Project) -> str:
    return section_of(project, "Deployment certificate")


def section_of(project: Project, name: str) -> str:
    sections = read(project.artefact / "report.html").all("section")
    (found,) = (each for each in sections if each.all("h2")[0].text == name)
    return found.text


def test_the_commands_on_the_page_make_the_same_run_again(
    nxmi_export: Command, project: Project
) -> None:
    options = ("--limit", 24, "--batch-tokens", 512, "--margin", 0.3, "--max-flips", 3, "--seed", 5)
    arguments = ("--task", "sst2", "--data", project.data, *options, "--strict")
    code = nxmi_export("parity", project.artefact, *arguments).code
    page = read(project.artefact / "report-limit-24.html")
    (text,) = page.all("section")[-1].all("pre")[0].all("code")[0].content
    export, parity = (shlex.split(line)[1:] for line in str(text).splitlines())
    place = ["-o", str(project.artefact), "--overwrite", "--no-autotune"]
    assert export == ["export", str(project.folder / "model.pt"), *place]
    first = document(project, "parity-sst2-limit-24.json")
    (project.artefact / "parity-sst2-limit-24.json").unlink()
    assert nxmi_export(*parity).code == code
    assert document(project, "parity-sst2-limit-24.json") == first
    before = read_artefact(project.artefact).manifest.files
    assert nxmi_export(*export).code == 0
    assert read_artefact(project.artefact).manifest.files == before
    names = {path.name for path in project.artefact.iterdir()}
    assert "report.html" not in names  # nothing is known of the new files yet


def test_the_export_on_the_page_makes_every_file_that_the_artefact_has(project: Project) -> None:
    artefact = read_artefact(project.artefact)
    files = artefact.manifest.files
    more = {
        "files": {**files, FP16_MODEL: files["model.onnx"], INT4_MODEL: files["model.onnx"]},
        "packed": dict.fromkeys(("layer.0", "layer.1"), PackedRecord(block=128, bytes=9)),
    }
    changed = replace(artefact, manifest=artefact.manifest.model_copy(update=more))
    request = ParityRequest(task_named("sst2"), project.data, probe_tokens=32)
    export, parity = commands_again(changed, request)
    assert export.endswith(" --overwrite --fp16 --int4-blocks 128 --no-autotune")
    assert " --probe-tokens 32 " in parity


def test_the_export_on_the_page_measures_what_the_first_one_measured(
    nxmi_export: Command, project: Project, tmp_path: Path
) -> None:
    outcome = nxmi_export("export", project.folder / "model.pt", "-o", tmp_path / "artefact")
    assert (outcome.code, outcome.err) == (0, "")
    artefact = read_artefact(tmp_path / "artefact")
    tuning = artefact.manifest.tuning
    assert tuning is not None  # unasked
    # Its attention is quantized, so it has no form with one operator for it.
    assert {each.graph for each in tuning.timed} == {"portable", "products"}
    request = ParityRequest(task_named("sst2"), project.data)
    assert commands_again(artefact, request)[0].endswith(" --autotune")


def document(project: Project, name: str = "parity-sst2.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.artefact / name).read_text())
    return found


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--html", "{folder}/nowhere/a.html"],
            "{folder}/nowhere/a.html: expected a file to write in a folder that exists, found no "
            "such folder; choose another with --html",
        ),
        (
            ["--html", "{folder}"],
            "{folder}: expected a file to write in a folder that exists, found a folder; choose "
            "another with --html",
        ),
        (
            ["--html", "{folder}/a", "-o", "{folder}/a"],
            "-o, --html: expected a file each, found {folder}/a, {folder}/a; give them different "
            "names",
        ),
    ],
    ids=["nowhere", "folder", "same file"],
)
def test_a_place_where_no_page_can_be_written_is_refused_before_the_work(
    nxmi_export: Command, project: Project, options: list[str], sentence: str
) -> None:
    arguments = [each.format(folder=project.folder) for each in options]
    outcome = nxmi_export("parity", project.artefact, "--task", "sst2", *arguments)
    assert (outcome.code, outcome.sentence) == (2, sentence.format(folder=project.folder))
    assert not list(project.artefact.glob("parity-*"))


def test_an_artefact_that_is_read_only_asks_for_another_place(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The superuser may write anywhere, so that permissions of a folder would test nothing.
    monkeypatch.setattr(os, "access", lambda path, mode: path != project.artefact)
    with pytest.raises(OutputError) as error:
        check_writable(
            {"-o": project.folder / "a.json", "--html": project.artefact / "report.html"},
            read_artefact(project.artefact),
        )
    assert str(error.value) == (
        f"{project.artefact / 'report.html'}: expected a file to write in a folder that exists, "
        "found a folder that cannot be written to; choose another with --html"
    )
