"""What travels with the graphs must be the checkpoint's: all rungs would be wrong alike."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.artefact import Manifest, read_artefact
from nxmi_export.errors import ArtefactError
from nxmi_export.glue import task_named
from nxmi_export.workflow.inspect import inspect
from nxmi_export.workflow.parity import ParityRequest, check_parity
from nxmi_export.workflow.parity.records import record_mismatches, session_mismatches
from nxmi_export.workflow.parity.source import exported_checkpoint
from nxmi_export.workflow.parity.what_travels import check_recipe
from tests.pipeline.parity_project import Project

Change = Callable[[Project], None]


@pytest.fixture
def project(sst2: Project, tmp_path: Path) -> Project:
    return sst2.copy(tmp_path / "copy")


def _facts(**facts: Any) -> Change:
    return lambda project: project.change(**facts)


def _config(key: str, value: object) -> Change:
    def change(project: Project) -> None:
        path = project.artefact / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
        project.change()

    return change


def _added_tokens(project: Project) -> None:
    (project.artefact / "added_tokens.json").write_text("{}")


FAULTS: dict[str, tuple[Change, str]] = {
    "fewer positions": (
        _facts(position_limit=8),
        "manifest.json: expected the checkpoint's position_limit, 64, found 8; export it again",
    ),
    "an input left out": (
        _facts(input_names=("input_ids", "attention_mask")),
        'manifest.json: expected the checkpoint\'s input_names, ["input_ids", "attention_mask", '
        '"token_type_ids"], found ["input_ids", "attention_mask"]; export it again',
    ),
    "another architecture": (
        _facts(architecture="RobertaForSequenceClassification"),
        'manifest.json: expected the checkpoint\'s architecture, "BertForSequenceClassification", '
        'found "RobertaForSequenceClassification"; export it again',
    ),
    "another length of training": (
        _facts(provenance={"seed": 0, "task": "sst2", "options": {"max_length": 4}}),
        'manifest.json: expected the checkpoint\'s provenance, {"seed": 0, "task": "sst2"}, found '
        '{"options": {"max_length": 4}, "seed": 0, "task": "sst2"}; export it again',
    ),
    "labels exchanged in the configuration": (
        _config("id2label", {"0": "LABEL_1", "1": "LABEL_0"}),
        'config.json: expected the checkpoint\'s id2label, {"0": "LABEL_0", "1": "LABEL_1"}, '
        'found {"0": "LABEL_1", "1": "LABEL_0"}; export it again',
    ),
    "a key that the checkpoint lacks": (
        _config("pruned", True),
        "config.json: expected the checkpoint's pruned, nothing, found true; export it again",
    ),
    "a tokenizer file that the checkpoint lacks": (
        _added_tokens,
        "added_tokens.json: expected no tokenizer file that the checkpoint lacks, found one; "
        "remove it, or export again from a checkpoint that has it",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fact_that_is_not_the_checkpoints_is_refused(fault: str, project: Project) -> None:
    change, sentence = FAULTS[fault]
    change(project)
    with pytest.raises(ArtefactError) as caught:
        exported_checkpoint(read_artefact(project.artefact), None)
    assert str(caught.value) == f"{project.artefact}/{sentence}"


def test_a_configuration_that_is_no_json_is_refused(project: Project) -> None:
    (project.artefact / "config.json").write_text("{")
    project.change()
    with pytest.raises(ArtefactError, match=r"config\.json: expected a configuration in JSON"):
        exported_checkpoint(read_artefact(project.artefact), None)


def test_an_honest_artefact_is_let_through(sst2: Project) -> None:
    artefact = read_artefact(sst2.artefact)
    check_recipe(artefact, exported_checkpoint(artefact, None))
    assert list(session_mismatches(artefact)) == []
    assert list(record_mismatches(artefact)) == []


def test_records_that_say_something_else_than_the_graph_are_mismatches(project: Project) -> None:
    """`inspect` shows them, and nothing else would tell that they are wrong."""
    linears = dict(Manifest.read(project.artefact).linears)
    linears["classifier"] = linears["classifier"].model_copy(update={"storage": "2:4+int8"})
    del linears["bert.pooler.dense"]
    project.change(linears=linears)
    told = [str(each) for each in record_mismatches(read_artefact(project.artefact))]
    assert told == [
        "bert.pooler.dense: record in manifest.json is none, not "
        "storage='dense' inputs=32 outputs=32 zeros=0.0",
        "classifier: record in manifest.json is storage='2:4+int8' inputs=32 outputs=2 zeros=0.0, "
        "not storage='dense' inputs=32 outputs=2 zeros=0.0",
    ]


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        (None, "expected the recipe of the checkpoint, found none"),
        (
            {"default": "int8"},
            'expected the recipe of the checkpoint, whose default is "2:4+int8", found "int8"',
        ),
        (
            {"placement": "linear"},
            'expected the recipe of the checkpoint, whose placement is "sparse", found "linear"',
        ),
    ],
    ids=["none", "schemes", "placement"],
)
def test_a_recipe_that_is_not_the_checkpoints_is_refused(
    recipe: dict[str, Any] | None, complaint: str, project: Project
) -> None:
    project.change(recipe=recipe)
    artefact = read_artefact(project.artefact)
    with pytest.raises(ArtefactError) as caught:
        check_recipe(artefact, exported_checkpoint(artefact, None))
    assert str(caught.value) == (f"{project.artefact}/manifest.json: {complaint}; export it again")


def test_a_recipe_where_the_checkpoint_has_none_is_refused(sst2: Project) -> None:
    artefact = read_artefact(sst2.artefact)
    dense = replace(exported_checkpoint(artefact, None), recipe=None)
    with pytest.raises(ArtefactError, match=r"manifest\.json: expected no recipe, found one; "):
        check_recipe(artefact, dense)


def test_a_recipe_of_a_version_that_knew_fewer_keys_is_let_through(project: Project) -> None:
    """What it leaves out has the default that the checkpoint's has."""
    recipe = dict(Manifest.read(project.artefact).recipe or {})
    del recipe["embeddings"]
    project.change(recipe=recipe)
    artefact = read_artefact(project.artefact)
    check_recipe(artefact, exported_checkpoint(artefact, None))


def test_records_of_a_version_that_kept_none_are_said_of_the_manifest_and_not_of_the_graph(
    project: Project,
) -> None:
    project.change(embeddings={})
    request = ParityRequest(task_named("sst2"), project.data, limit=8, drift_examples=4)
    run = check_parity(read_artefact(project.artefact), request, on_progress=lambda *_: None)
    assert run is not None
    (split,) = run.splits
    assert all(weights.equal for weights in split.result.weights.values())
    (check,) = (each for each in split.verdict.checks if each.failures)
    assert check.name == "manifest"
    (sentence,) = check.failures
    assert sentence.startswith("manifest.json says otherwise than the graphs in 3 places, ")
    assert sentence.endswith(
        " is none, not storage='dense' rows=64 width=32 bytes=8192; export the model again."
    )


def test_missing_options_for_exact_products_are_a_mismatch(project: Project) -> None:
    project.change(session_options={})
    (mismatch,) = session_mismatches(read_artefact(project.artefact))
    assert str(mismatch) == (
        "model.cpu.onnx: session_options in manifest.json is {}, not "
        "{'session.x64quantprecision': '1'}"
    )


def _report(project: Project, **changed: Any) -> Path:
    manifest = Manifest.read(project.artefact)
    document = {
        "schema": "nxmi-export/parity-run/4",
        "ok": False,
        "artefact": {name: record.sha256 for name, record in manifest.files.items()},
        "facts": manifest.facts_sha256,
        "splits": [],
        "checkpoint": {"path": "model.pt", "sha256": manifest.source.sha256},
    }
    path = project.folder / "parity.json"
    path.write_text(json.dumps(document | changed))
    return path


def test_a_report_of_these_files_is_read(project: Project) -> None:
    inspection = inspect(str(project.artefact), report=_report(project))
    assert inspection.parity is False


def test_a_directory_that_was_named_otherwise_is_the_same(project: Project) -> None:
    project.change(provenance={"seed": 0, "task": "sst2", "source": "../elsewhere", "base": "b"})
    exported_checkpoint(read_artefact(project.artefact), None)


def test_a_report_of_a_manifest_that_said_something_else_is_refused(project: Project) -> None:
    path = _report(project)
    project.change(labels=("LABEL_1", "LABEL_0"))
    with pytest.raises(ArtefactError, match=r"found one of a manifest\.json that said something "):
        inspect(str(project.artefact), report=path)


@pytest.mark.parametrize(
    "changes",
    [
        {"ok": True},
        {"ok": "yes"},
        {"ok": True, "splits": [{"ok": True, "failures": ["It drifts."]}]},
        {"ok": True, "splits": [{"ok": True, "failures": []}, {"ok": False, "failures": []}]},
        {"ok": False, "splits": [{"ok": True, "failures": []}]},
        {"ok": True, "splits": {}},
    ],
)
def test_a_report_whose_answer_is_not_its_own_is_refused(
    project: Project, changes: dict[str, Any]
) -> None:
    path = _report(project, **changes)
    with pytest.raises(ArtefactError, match="found an answer that is not that of its dev sets"):
        inspect(str(project.artefact), report=path)


def test_a_report_of_files_that_changed_is_refused(project: Project) -> None:
    path = _report(project)
    with (project.artefact / "config.json").open("a") as file:
        file.write("\n")
    before = Manifest.read(project.artefact).files["config.json"].sha256
    project.change()
    with pytest.raises(ArtefactError) as caught:
        inspect(str(project.artefact), report=path)
    assert str(caught.value) == (
        f"{path}: expected a parity report of the artefact's files as they are now, found one of a "
        f"config.json with SHA-256 {before[:12]}…, which is another; run nxmi-export parity again"
    )


REPORTS: dict[str, tuple[dict[str, Any], str]] = {
    "another schema": ({"schema": "something/1"}, "found another schema"),
    "no hashes": ({"artefact": None}, "found no hashes of files"),
    "a file less": ({"artefact": {}}, "found one that does not know config.json"),
    "another checkpoint": (
        {"checkpoint": {"sha256": "1" * 64}},
        "found one of another checkpoint, with SHA-256 111111111111…",
    ),
}


@pytest.mark.parametrize("fault", REPORTS)
def test_a_report_that_speaks_of_something_else_is_refused(fault: str, project: Project) -> None:
    changed, found = REPORTS[fault]
    with pytest.raises(ArtefactError) as caught:
        inspect(str(project.artefact), report=_report(project, **changed))
    assert found in str(caught.value)


def test_a_file_more_in_the_report_is_refused(project: Project) -> None:
    named = {name: each.sha256 for name, each in Manifest.read(project.artefact).files.items()}
    path = _report(project, artefact={**named, "model.plan": "0" * 64})
    with pytest.raises(ArtefactError, match=r"one of model\.plan, which the artefact does not"):
        inspect(str(project.artefact), report=path)
