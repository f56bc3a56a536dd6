"""Faults that no example of the dev set reaches are found all the same, on made-up inputs."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from nxmi_export.artefact import read_artefact
from nxmi_export.checkpoint import read_tokenizer_files, write_checkpoint
from nxmi_export.compression import checkpoint_of
from nxmi_export.glue import task_named
from nxmi_export.parity import Gate, ParityRun
from nxmi_export.recipe import Placement, Recipe
from nxmi_export.workflow.export import ExportRequest, export
from nxmi_export.workflow.parity import ParityRequest, check_parity
from tests.pipeline.exports import load
from tests.pipeline.parity_project import EXAMPLES, Project, write_split
from tests.tiny_models import (
    POSITION_LIMIT,
    compressed_model,
    tiny_tokenizer,
    toy_dataset,
    write_model_file,
)

Edit = Callable[[onnx.ModelProto], None]

POSITIONS = "bert.embeddings.position_embeddings/Gather"
TYPES = "bert.embeddings.token_type_embeddings/Gather"
DEV_SET = r"; the dev set reaches (\d+) tokens, \d+ different ids and token type 0\. Probe 0: "
EMBEDDINGS = "bert.embeddings.LayerNorm.output_quantizer"
SMALL: dict[str, Any] = {
    "limit": 24,
    "shift_examples": 8,
    "shape_examples": 4,
    "code_examples": 0,
    "replay_examples": 4,
}


def read_through(name: str, op_type: str, constant: int) -> Edit:
    """Let the look-up `name` read its ids through one more operation."""

    def edit(model: onnx.ModelProto) -> None:
        (place,) = (index for index, node in enumerate(model.graph.node) if node.name == name)
        gather = model.graph.node[place]
        operand = onnx.numpy_helper.from_array(np.array(constant, np.int64), "operand")
        model.graph.initializer.append(operand)
        ids = [gather.input[1], operand.name]
        model.graph.node.insert(place, onnx.helper.make_node(op_type, ids, ["changed_ids"]))
        model.graph.node[place + 1].input[1] = "changed_ids"
        # Of a float16 file every value has a type, or it is refused for that.
        typed = onnx.helper.make_tensor_value_info("changed_ids", onnx.TensorProto.INT64, None)
        model.graph.value_info.append(typed)

    return edit


CLAMPED, ONE_TYPE = read_through(POSITIONS, "Min", 24), read_through(TYPES, "Mul", 0)


@pytest.fixture(scope="module")
def float16(sst2: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same checkpoint, exported with model.fp16.onnx."""
    project = sst2.copy(tmp_path_factory.mktemp("float16") / "project")
    request = ExportRequest(str(project.folder / "model.pt"), project.artefact, overwrite=True)
    export(replace(request, fp16=True))
    return project


def honest_project(folder: Path, model_type: str) -> Project:
    """A compressed model of that type, exported, with reviews; nothing is planted."""
    tiny_tokenizer().save_pretrained(folder)
    checkpoint = checkpoint_of(
        compressed_model(model_type=model_type),
        recipe=Recipe(),
        tokenizer=read_tokenizer_files(folder),
        provenance={},
    )
    write_checkpoint(folder / "model.pt", checkpoint)
    write_split(folder / "glue", toy_dataset(EXAMPLES), "validation")
    export(ExportRequest(str(folder / "model.pt"), folder / "model.artefact"))
    return Project(folder)


def planted(project: Project, edit: Edit, *names: str) -> Project:
    """The fault in these files, whose hashes the manifest has."""
    for name in names:
        model = load(project.artefact / name)
        edit(model)
        onnx.save(model, project.artefact / name)
    project.change()
    return project


def run_parity(project: Project, **settings: Any) -> ParityRun:
    request = ParityRequest(task_named("sst2"), project.data, **SMALL | settings)
    run = check_parity(read_artefact(project.artefact), request, on_progress=lambda *_: None)
    assert run is not None
    return run


def told(run: ParityRun) -> tuple[str, ...]:
    """What fails, which is nothing but the probes."""
    (split,) = run.splits
    failed = {check.name for check in split.verdict.checks if check.failures}
    assert failed == {"probes beyond the dev set"}
    return run.failures


@pytest.mark.parametrize(
    ("edit", "table", "reached"),
    [(CLAMPED, "position", range(25, 64)), (ONE_TYPE, "token_type", range(64))],
    ids=["positions clamped", "one token type"],
)
def test_a_fault_that_the_dev_set_does_not_reach_is_found(
    edit: Edit, table: str, reached: range, sst2: Project, tmp_path: Path
) -> None:
    project = planted(sst2.copy(tmp_path / "copy"), edit, "model.onnx", "model.cpu.onnx")
    written, optimized, *drifts = told(run_parity(project))
    for name, sentence in (("model.onnx, un", written), ("model.cpu.onnx, ", optimized)):
        assert sentence.startswith(f"{name}optimized gives other logits than PyTorch, compressed ")
        found = re.search(rf"{DEV_SET}{re.escape(EMBEDDINGS)} at \[(\d+), ", sentence)
        assert found, sentence
        longest, token = map(int, found.groups())
        assert longest <= 24
        assert token in reached
    assert drifts[0].startswith(
        "model.onnx, unoptimized drifts from PyTorch on probes at "
        f"bert.embeddings.{table}_embeddings (embedding) (operator numerics). "
    )


def test_a_fault_of_the_file_for_the_cpu_alone_differs_in_bits_too(
    sst2: Project, tmp_path: Path
) -> None:
    project = planted(sst2.copy(tmp_path / "copy"), CLAMPED, "model.cpu.onnx")
    sentences = told(run_parity(project))
    assert any(
        "model.cpu.onnx, unoptimized gave other logits than model.onnx, unoptimized for 3 of 5 "
        "probes, where all must be equal bit for bit." in sentence
        for sentence in sentences
    )


def test_a_fault_of_the_float16_file_alone_shows_in_its_codes(
    float16: Project, tmp_path: Path
) -> None:
    project = float16.copy(tmp_path / "copy")
    assert run_parity(project).ok
    (sentence, *_) = told(run_parity(planted(project, CLAMPED, "model.fp16.onnx")))
    assert sentence.startswith("The float16 file gives ")
    assert f"codes of {EMBEDDINGS} more than one step away from PyTorch's" in sentence


def test_a_fault_of_a_float16_file_that_quantizes_nothing_shows_in_its_logits(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path)
    model = write_model_file(tmp_path / "model.pt", Placement.WEIGHTS)
    write_split(project.data, toy_dataset(EXAMPLES), "validation")
    export(ExportRequest(str(model), project.artefact, fp16=True))
    assert run_parity(project).failures == ()
    (sentence, *_) = told(run_parity(planted(project, CLAMPED, "model.fp16.onnx")))
    assert sentence.startswith("The float16 file gives logits on the probes that lie ")
    assert "from those of model.onnx, unoptimized, where rounding to float16" in sentence


def test_what_probes_reach_is_written_down(sst2: Project) -> None:
    (split,) = run_parity(sst2).splits
    found = split.result.as_json()["probes"]
    assert found["sizes"] == {"positions": 64, "vocabulary": 96, "token_types": 2}
    # Of 96 ids one is padding.
    assert found["reach"] == {"examples": 5, "tokens": 64, "words": 95, "token_types": [0, 1]}
    assert found["dev_set"]["token_types"] == [0]
    assert [(step["reference"], step["candidate"]) for step in found["steps"]] == [
        ("compressed", "written"),
        ("compressed", "optimized"),
        ("written", "shifted"),
    ]
    assert [len(step["replayed"]) for step in found["steps"]] == [5, 5, 0]
    assert all(each["explained"] for step in found["steps"] for each in step["replayed"])
    assert found["drift"] == {}


def test_a_model_that_counts_positions_from_its_padding_on_passes(tmp_path: Path) -> None:
    """As RoBERTa does, which has no token types either."""
    project = honest_project(tmp_path, "roberta")
    run = run_parity(project)
    assert run.failures == ()
    probes = run.splits[0].result.probes
    assert probes is not None
    assert probes.reach.tokens == probes.sizes.positions == POSITION_LIMIT
    assert probes.reach.token_types == ()


def test_no_probes_where_none_are_asked_for(sst2: Project) -> None:
    run = run_parity(sst2, probe_tokens=0, gate=Gate(require_probes=False))
    assert run.ok
    assert run.splits[0].result.probes is None
