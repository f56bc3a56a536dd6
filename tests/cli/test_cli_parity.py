"""`nxmi-export parity`: several tasks in one run, the gate's options, and the files it writes."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.glue import task_named
from tests.cli.command_lines import Command
from tests.pipeline.parity_project import Project, sst2_project, write_split
from tests.tiny_models import toy_dataset

WARNING = (
    "warning: The model was compressed on sst2 and not on cola: there its scores say what the "
    "export keeps, and nothing of how good the model is.\n"
)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A head of two unnamed labels, which fits SST-2 and CoLA alike."""
    project = sst2_project(tmp_path_factory.mktemp("two tasks"))
    project.change(labels=("LABEL_0", "LABEL_1"))
    # Of both classes, so that there is a Matthews correlation.
    data = toy_dataset(24, task=task_named("cola"), seed=1)
    assert len(np.unique(data.labels)) == 2
    write_split(project.data, data, "validation")
    return project


def test_several_tasks_in_one_run_open_every_session_once(
    nxmi_export: Command, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, bool]] = []

    class Counted(OnnxRuntimeRunner):
        def __init__(self, path: Path, *, optimize: bool, **others: Any) -> None:
            super().__init__(path, optimize=optimize, **others)
            opened.append((path.name, optimize))

    monkeypatch.setattr("nxmi_export.workflow.parity.ladder.OnnxRuntimeRunner", Counted)
    output = tmp_path / "run.json"
    tasks = ("--task", "sst2", "--task", "cola")
    outcome = nxmi_export(
        *("parity", project.artefact, *tasks, "--data", project.data, "-o", output)
    )
    document = json.loads(output.read_text())
    assert outcome.err.startswith(WARNING)
    assert outcome.code == (0 if document["ok"] else 1)
    assert opened == [
        ("model.onnx", False),
        ("model.cpu.onnx", False),
        ("model.cpu.onnx", True),
    ]
    splits = document["splits"]
    assert [(each["dataset"]["task"], each["dataset"]["examples"]) for each in splits] == [
        ("sst2", 40),
        ("cola", 24),
    ]
    assert list(document["family"]["members"]) == ["sst2 validation", "cola validation"]
    assert [list(each["rungs"]["written"]["scores"]) for each in splits] == [
        ["accuracy"],
        ["matthews"],
    ]
    assert [list(each["weights"]) for each in splits] == [["model.onnx", "model.cpu.onnx"]] * 2
    assert document["warnings"] == [WARNING.removeprefix("warning: ").strip()]
    assert "all dev sets together: inconclusive" in " ".join(outcome.out.split())


def test_each_task_of_a_run_scores_as_it_does_alone(
    nxmi_export: Command, project: Project, tmp_path: Path
) -> None:
    together, alone = tmp_path / "together.json", tmp_path / "alone.json"
    common = ("parity", project.artefact, "--data", project.data)
    nxmi_export(*common, "--task", "sst2", "--task", "cola", "-o", together)
    nxmi_export(*common, "--task", "cola", "-o", alone)
    _, second = json.loads(together.read_text())["splits"]
    (only,) = json.loads(alone.read_text())["splits"]
    assert second == only


def test_the_summaries_for_machines_and_for_people(
    nxmi_export: Command, project: Project, tmp_path: Path
) -> None:
    junit, markdown = tmp_path / "parity.xml", tmp_path / "parity.md"
    outcome = nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data),
        *("-o", tmp_path / "run.json", "--junit", junit, "--markdown", markdown),
    )
    assert (outcome.code, outcome.err) == (0, "")
    root = ET.fromstring(junit.read_bytes())
    assert (root.get("failures"), root.get("skipped")) == ("0", "1")
    assert [suite.get("name") for suite in root] == ["sst2 validation"]
    assert markdown.read_text().startswith("# Parity passed\n")
    assert "everything in " in outcome.out
    assert outcome.out.count("a summary in ") == 2


def test_strict_fails_where_the_dev_set_is_too_small_and_says_what_it_could_certify(
    nxmi_export: Command, project: Project, tmp_path: Path
) -> None:
    output, junit = tmp_path / "run.json", tmp_path / "parity.xml"
    outcome = nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data, "--strict"),
        *("--limit", 24, "-o", output, "--junit", junit),
    )
    assert outcome.code == 1
    assert "This dev set cannot certify a drop below" in outcome.err
    assert json.loads(output.read_text())["ok"] is False
    assert ET.fromstring(junit.read_bytes()).get("failures") == "1"  # written all the same


@pytest.mark.parametrize(
    ("options", "limit", "allowances"),
    [
        # Of 40 examples that were read there may be more; that the model has 64 positions is known.
        (("--limit", 40, "--max-length", 63), 40, ["max_length"]),
        (("--limit", 41, "--max-length", 64), None, []),
    ],
)
def test_a_report_says_whether_it_looked_at_less_than_all(
    options: tuple[object, ...],
    limit: int | None,
    allowances: list[str],
    nxmi_export: Command,
    project: Project,
    tmp_path: Path,
) -> None:
    output = tmp_path / "run.json"
    common = ("parity", project.artefact, "--task", "sst2", "--data", project.data)
    assert nxmi_export(*common, *options, "-o", output).code == 0
    document = json.loads(output.read_text())
    assert (document["limit"], document["allowances"]) == (limit, allowances)


def test_a_margin_that_so_few_examples_can_certify_passes_under_strict(
    nxmi_export: Command, project: Project, tmp_path: Path
) -> None:
    output = tmp_path / "run.json"
    outcome = nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data, "--strict"),
        *("--margin", 0.4, "--confidence", 0.9, "--seed", 7, "--max-flips", 40, "-o", output),
    )
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(output.read_text())
    assert document["gate"]["terms"] == {
        "margin": 0.4,
        "confidence": 0.9,
        "resamples": 9999,
        "seed": 7,
    }
    assert (document["gate"]["strict"], document["gate"]["max_flips"]) == (True, 40)
    assert document["family"]["conclusion"] in ("equivalent", "not inferior")


def test_the_result_of_several_tasks_is_named_after_all_of_them(
    nxmi_export: Command, project: Project, tmp_path: Path
) -> None:
    copy = project.copy(tmp_path / "copy")
    tasks = ("--task", "cola", "--task", "sst2", "--limit", 8)
    nxmi_export("parity", copy.artefact, *tasks, "--data", copy.data)
    document = json.loads((copy.artefact / "parity-cola-sst2-limit-8.json").read_text())
    assert len(document["splits"]) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--task", "sst2", "--task", "sst2"],
            "tasks: expected each task once, found sst2 2 times; name it once; all its dev splits "
            "are run",
        ),
        (
            ["--task", "sst2", "--task", "mnli"],
            "{artefact}: expected a head with 3 outputs for mnli, found 2; name the task it was "
            "trained on",
        ),
        (
            ["--task", "sst2", "--margin", "0"],
            "margin: expected a score difference between 0 and 1, ends excluded, found 0.0; no "
            "data can show two scores to be equal; half a point is 0.005",
        ),
        (
            ["--task", "sst2", "--confidence", "95"],
            "confidence: expected a share between 0.5 and 1, ends excluded, found 95.0; 95 % is "
            "0.95",
        ),
        (
            ["--task", "sst2", "--junit", "{folder}/nowhere/a.xml"],
            "{folder}/nowhere/a.xml: expected a file to write in a folder that exists, found no "
            "such folder; choose another with --junit",
        ),
        (
            ["--task", "sst2", "--markdown", "{folder}"],
            "{folder}: expected a file to write in a folder that exists, found a folder; choose "
            "another with --markdown",
        ),
        (
            [*("--task", "sst2"), *("-o", "{folder}/a"), *("--markdown", "{folder}/a")],
            "-o, --markdown: expected a file each, found {folder}/a, {folder}/a; give them "
            "different names",
        ),
    ],
    ids=["twice", "head", "margin", "confidence", "junit", "markdown", "same file"],
)
def test_what_cannot_be_done_is_refused_before_the_work(
    nxmi_export: Command, project: Project, tmp_path: Path, options: list[str], sentence: str
) -> None:
    places = {"artefact": project.artefact, "folder": tmp_path}
    arguments = [each.format(**places) for each in options]
    outcome = nxmi_export("parity", project.artefact, *arguments, "--data", project.data)
    assert (outcome.code, outcome.sentence) == (2, sentence.format(**places))
    assert list(tmp_path.iterdir()) == []
    assert not list(project.artefact.glob("parity-*"))


def test_a_dev_set_that_is_missing_is_known_before_another_is_run(
    nxmi_export: Command, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: object, **others: object) -> None:
        raise AssertionError("a rung was run")

    monkeypatch.setattr("nxmi_export.workflow.parity.climb.shared_logits", run)
    tasks = ("--task", "sst2", "--task", "mrpc")
    outcome = nxmi_export("parity", project.artefact, *tasks, "--data", project.data)
    assert outcome.code == 2
    assert outcome.sentence.startswith("mrpc validation: expected one of ")


def test_help_lists_the_exit_codes(nxmi_export: Command) -> None:
    text = " ".join(nxmi_export("parity", "--help").out.split())
    assert (
        "Exit codes: 0 every gate holds; 1 a gate failed, and the files say which; 2 the command "
        "line, the data or the artefact cannot be used; 3 a library is missing; 4 internal error."
    ) in text
