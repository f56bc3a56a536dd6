"""The whole verb `nxmi-export parity` on tiny models: what it proves, finds and refuses."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from nxmi_export.__main__ import main
from nxmi_export.artefact import WEIGHTS, file_record, read_artefact
from nxmi_export.artefact.manifest import Manifest
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.checkpoint import read_tokenizer_files, write_checkpoint
from nxmi_export.compression import checkpoint_of
from nxmi_export.glue import TASKS, Dataset, task_named
from nxmi_export.parity.logits import logits_of
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.export import ExportRequest, export
from tests.cli.command_lines import Command, Outcome
from tests.pipeline.exports import external_tensors, load, produced_by
from tests.pipeline.parity_project import EXAMPLES, Project, write_split
from tests.tiny_models import (
    compressed_model,
    tiny_tokenizer,
    toy_data,
    toy_dataset,
)

QUERY = "bert.encoder.layer.0.attention.self.query"
PERMUTED = ("contradiction", "Entailment", "NEUTRAL")  # MNLI's are entailment, neutral, contr…


def write_permuted(folder: Path) -> None:
    """A model whose outputs are MNLI's in another order, and MNLI as it predicts it."""
    tiny_tokenizer().save_pretrained(folder)
    model = compressed_model(
        id2label=dict(enumerate(PERMUTED)), label2id={name: i for i, name in enumerate(PERMUTED)}
    )
    tokenizer = read_tokenizer_files(folder)
    checkpoint = checkpoint_of(model, recipe=Recipe(), tokenizer=tokenizer, provenance={})
    write_checkpoint(folder / "model.pt", checkpoint)
    task = task_named("mnli")
    data = toy_data(EXAMPLES, task=task)
    logits = logits_of(TorchRunner(model, tuple(data.rows[0])), data, data.cut(32))
    outputs = [task.labels.index(name.lower()) for name in PERMUTED]
    labels = np.array([outputs[index] for index in logits.argmax(axis=1)])
    assert len(set(labels.tolist())) > 1
    texts = toy_dataset(EXAMPLES, task=task).texts
    dataset = Dataset(task, "made up", texts, labels, np.arange(EXAMPLES), "toy", "0" * 64)
    for split in task.dev_splits:
        write_split(folder / "glue", dataset, split)


@pytest.fixture(scope="session")
def mnli(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("mnli")
    write_permuted(folder)
    export(ExportRequest(str(folder / "model.pt"), folder / "model.artefact"))
    return Project(folder)


@pytest.fixture
def parity(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main(["parity", *map(str, arguments)])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def edit_codes(project: Project, change: Callable[[NDArray[np.int8]], None]) -> None:
    """Change the stored codes (K, N) of the query in place, and the manifest's hash with them."""
    path = project.artefact / "model.onnx"
    model = load(path)
    (product,) = (n for n in model.graph.node if n.name == f"{QUERY}/MatMul")
    stored = produced_by(model)[product.input[1]].input[0]
    (tensor,) = (each for each in model.graph.initializer if each.name == stored)
    _, offset, length = external_tensors(path)[stored]
    with (project.artefact / WEIGHTS).open("r+b") as file:
        file.seek(offset)
        codes = np.frombuffer(file.read(length), np.int8).reshape(tensor.dims).copy()
        change(codes)
        file.seek(offset)
        file.write(codes.tobytes())
    project.change()
    read_artefact(project.artefact)  # does not raise: no hash gives it away


def test_an_intact_artefact_passes_and_everything_is_written_down(
    parity: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    (project.artefact / "engine.json").write_text("an engine of nobody knows what")
    outcome = parity(project.artefact, "--task", "sst2", "--data", project.data)
    assert (outcome.code, outcome.err) == (0, "")
    for words in ("model.cpu.onnx, unoptimized", "equal", "not built", "12 of 12", "passed"):
        assert words in outcome.out
    document = json.loads((project.artefact / "parity-sst2.json").read_text())
    files = read_artefact(project.artefact).manifest.files
    assert document["schema"] == "nxmi-export/parity-run/4"
    assert document["ok"] is True
    assert document["artefact"] == {name: record.sha256 for name, record in files.items()}
    assert document["checkpoint"] == {
        "path": str(project.folder / "model.pt"),
        "sha256": file_record(project.folder / "model.pt").sha256,
    }
    assert document["max_length"] == 64  # the model's, below the default of 128
    assert document["gate"] == {
        "max_changed": 0,
        "max_flips": None,
        "max_drop": 0.005,
        "max_kernel_changed": 0.01,
        "max_float16_changed": 0.02,
        "max_shape_changed": 0.01,
        "require_shapes": True,
        "require_replay": True,
        "require_probes": True,
        "terms": {"margin": 0.005, "confidence": 0.95, "resamples": 9999, "seed": 0},
        "strict": False,
    }
    assert document["warnings"] == []
    # Forty examples cannot rule out half a point, whatever they say.
    assert document["family"]["conclusion"] == "inconclusive"
    (split,) = document["splits"]
    assert (split["ok"], split["failures"]) == (True, [])
    assert list(split["rungs"]) == ["compressed", "written", "shifted", "optimized"]
    assert [(step["reference"], step["candidate"]) for step in split["steps"]] == [
        ("compressed", "written"),
        ("compressed", "optimized"),
        ("written", "optimized"),
        ("written", "shifted"),
    ]
    assert split["unproven"] == {"engine": {"reason": "No engine was built.", "deployed": False}}
    assert [len(step["replayed"]) for step in split["steps"]] == [16, 16, 0, 0]
    assert all(each["explained"] for step in split["steps"] for each in step["replayed"])
    for shape in split["shapes"]:
        assert [setting["left"] for setting in shape["settings"]].count(True) == 1
        assert all(setting["replays"] for setting in shape["settings"])
    found = [step["statistics"] and step["statistics"]["conclusion"] for step in split["steps"]]
    assert found == ["inconclusive", "inconclusive", "inconclusive", None]
    assert {name: each["equal"] for name, each in split["weights"].items()} == {
        "model.onnx": True,
        "model.cpu.onnx": True,
    }
    assert [len(shape["settings"]) > 2 for shape in split["shapes"]] == [True, True]
    assert split["codes"]
    assert set(split["environment"]) == {
        "nxmi-export",
        "torch",
        "transformers",
        "onnxruntime",
        "openvino",
        "numpy",
        "python",
        "platform",
        "processor",
    }


def test_versions_are_those_of_the_run_and_not_of_the_export(
    parity: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    project.change(versions={"torch": "1.0"})
    output = tmp_path / "run.json"
    arguments = ("--task", "sst2", "--data", project.data, "--limit", 8, "-o", output)
    assert parity(project.artefact, *arguments).code == 0
    (split,) = json.loads(output.read_text())["splits"]
    assert split["environment"]["torch"] == version("torch")


def test_one_flipped_code_is_found_where_no_hash_tells(
    parity: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    flipped: list[int] = []

    def flip(codes: NDArray[np.int8]) -> None:
        feature, channel = np.argwhere(np.abs(codes.astype(int)) > 1)[7].tolist()
        before = int(codes[feature, channel])
        codes[feature, channel] = before ^ 1
        flipped.extend((channel, feature, before ^ 1, before))

    edit_codes(project, flip)
    outcome = parity(project.artefact, "--task", "sst2", "--data", project.data)
    channel, feature, found, trained = flipped
    assert outcome.code == 1
    for name in ("model.onnx", "model.cpu.onnx"):
        assert (
            f"{name} differs from the PyTorch model in 1 places, the first being {QUERY}: "
            f"code at [{channel}, {feature}] is {found}, not {trained}."
        ) in outcome.err
    document = json.loads((project.artefact / "parity-sst2.json").read_text())
    assert document["ok"] is False
    (mismatch,) = document["splits"][0]["weights"]["model.onnx"]["mismatches"]
    assert (mismatch["module"], mismatch["position"]) == (QUERY, [channel, feature])


def test_permuted_labels_are_put_in_order_on_every_rung(
    parity: Command, mnli: Project, tmp_path: Path
) -> None:
    output = tmp_path / "run.json"
    outcome = parity(mnli.artefact, "--task", "mnli", "--data", mnli.data, "-o", output)
    assert (outcome.code, outcome.err) == (0, "")
    splits = json.loads(output.read_text())["splits"]
    assert [split["dataset"]["split"] for split in splits] == list(task_named("mnli").dev_splits)
    for split in splits:
        assert {rung["primary"] for rung in split["rungs"].values()} == {1.0}


def test_a_change_under_permuted_labels_is_traced_to_its_place(
    parity: Command, mnli: Project, tmp_path: Path
) -> None:
    project = mnli.copy(tmp_path / "copy")

    def negate(codes: NDArray[np.int8]) -> None:
        codes *= -1

    edit_codes(project, negate)
    arguments = ("--task", "mnli", "--data", project.data, "-o", tmp_path / "run.json")
    assert parity(project.artefact, *arguments).code == 1
    split, _ = json.loads((tmp_path / "run.json").read_text())["splits"]
    explanations = split["steps"][0]["explanations"]
    assert explanations
    # In the model's own order the first objection would be that running again decides otherwise.
    assert {each["explained"] for each in explanations} == {False}
    assert all(each["reason"].startswith(QUERY) for each in explanations)


def test_a_head_of_another_width(parity: Command, sst2: Project) -> None:
    outcome = parity(sst2.artefact, "--task", "mnli", "--data", sst2.data)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{sst2.artefact}: expected a head with 3 outputs for mnli, found 2; "
        "name the task it was trained on",
    )


def test_labels_that_are_not_the_checkpoints(
    parity: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    project.change(labels=("entailment", "not_entailment"))
    outcome = parity(project.artefact, "--task", "sst2", "--data", project.data)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{project.artefact}: expected the checkpoint's labels LABEL_0, LABEL_1, in this order, "
        "found entailment, not_entailment; export it again",
    )


def test_a_result_that_cannot_be_written_is_refused_before_the_work(
    parity: Command, sst2: Project, tmp_path: Path
) -> None:
    place = tmp_path / "nowhere" / "parity.json"
    outcome = parity(sst2.artefact, "--task", "sst2", "--data", sst2.data, "-o", place)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{place}: expected a file to write in a folder that exists, found no such folder; "
        "choose another with -o",
    )


def test_an_unknown_task(parity: Command, sst2: Project) -> None:
    outcome = parity(sst2.artefact, "--task", "sst", "--data", sst2.data)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"task: expected one of {', '.join(TASKS)}, or a .yaml file that describes another, found "
        "'sst'; did you mean sst2?",
    )


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (
            {"text": ["fine film"], "label": [1]},
            ": expected the columns sentence, label, found the columns text, label; "
            "use a file of sst2, or rename its columns",
        ),
        (
            {"sentence": ["fine film", "dull film"], "label": [1, 2]},
            ", row 1: expected a label among 0 (negative), 1 (positive), found 2; "
            "correct the file (rows count from 0)",
        ),
    ],
    ids=["columns", "labels"],
)
def test_data_that_is_not_the_tasks(
    parity: Command, sst2: Project, tmp_path: Path, columns: dict[str, list[Any]], complaint: str
) -> None:
    path = tmp_path / "sst2" / "validation.parquet"
    path.parent.mkdir()
    parquet.write_table(pa.table(columns), path)
    outcome = parity(sst2.artefact, "--task", "sst2", "--data", tmp_path)
    assert (outcome.code, outcome.sentence) == (2, f"{path}{complaint}")
    assert not (sst2.artefact / "parity-sst2.json").exists()


def test_a_checkpoint_that_was_moved_is_asked_for(
    parity: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    moved = (project.folder / "model.pt").rename(tmp_path / "moved.pt")
    arguments = ("--task", "sst2", "--data", project.data, "--limit", 8)
    outcome = parity(project.artefact, *arguments)
    assert outcome.code == 2
    assert outcome.sentence == (
        "../model.pt: expected the checkpoint that the artefact was exported from, "
        "found nothing at this path, seen from the artefact; pass its new place with --checkpoint"
    )
    assert parity(project.artefact, *arguments, "--checkpoint", moved).code == 0
    document = json.loads((project.artefact / "parity-sst2-limit-8.json").read_text())
    assert document["checkpoint"]["path"] == str(moved)


def test_a_checkpoint_that_was_replaced_is_refused(
    parity: Command, sst2: Project, mnli: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    exported = file_record(project.folder / "model.pt").sha256
    shutil.copy(mnli.folder / "model.pt", project.folder / "model.pt")
    outcome = parity(project.artefact, "--task", "sst2", "--data", project.data)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{project.folder / 'model.pt'}: expected the checkpoint with SHA-256 {exported[:12]}… "
        "that was exported, found other contents; export it again, or pass the original with "
        "--checkpoint",
    )


def test_a_swapped_order_of_labels_is_refused(
    parity: Command, sst2: Project, tmp_path: Path
) -> None:
    """Every rung would be scored in the wrong order, and none would differ from another."""
    project = sst2.copy(tmp_path / "project")
    labels = Manifest.read(project.artefact).labels
    project.change(labels=labels[::-1])
    outcome = parity(project.artefact, "--task", "sst2", "--data", project.data)
    assert outcome.code == 2
    assert f"the checkpoint's labels {', '.join(labels)}, in this order" in outcome.sentence


@pytest.mark.parametrize("fault", ["stale", "truncated", "absent"])
def test_a_tokenizer_that_is_not_the_checkpoints_is_refused(
    parity: Command, sst2: Project, tmp_path: Path, fault: str
) -> None:
    project = sst2.copy(tmp_path / "project")
    path = project.artefact / "tokenizer.json"
    content = path.read_bytes()
    if fault == "absent":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if fault == "truncated" else content + b"\n")
    if path.name in Manifest.read(project.artefact).files and fault != "absent":
        project.change()
    outcome = parity(project.artefact, "--task", "sst2", "--data", project.data)
    assert outcome.code == 2
    assert "tokenizer" in outcome.sentence


def test_engine_facts_of_another_schema_are_refused(
    parity: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    path, plan = project.artefact / "engine.json", project.artefact / "model.plan"
    path.write_text('{"schema": "nxmi-export/engine/0"}')
    plan.write_bytes(b"a plan")
    files = Manifest.read(project.artefact).files
    project.change(files=files | {each.name: file_record(each) for each in (path, plan)})
    outcome = parity(project.artefact, "--task", "sst2", "--data", project.data)
    assert (outcome.code, outcome.sentence) == (
        2,
        f"{path}: expected the schema nxmi-export/engine/3, found nxmi-export/engine/0; "
        "build the engine again",
    )
