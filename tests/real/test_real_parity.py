"""Real weights and real dev sets through every stage; the head is seeded, not trained.

A parity check needs no good model: an untrained head puts examples close to the decision, where a
wrong code shows soonest.
"""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from nxmi_export.artefact import Artefact
from nxmi_export.backends.tensorrt_engine import EngineOptions, ShapeProfile, Verdict, find_library
from nxmi_export.checkpoint import read_tokenizer_files, write_checkpoint
from nxmi_export.compression import (
    calibrate,
    checkpoint_of,
    compressed_linears,
    insert_quantizers,
)
from nxmi_export.compression.sparsity import project
from nxmi_export.encoding import encode, load_tokenizer
from nxmi_export.glue import TASKS, Task, load_dataset, task_named
from nxmi_export.parity import Stage
from nxmi_export.recipe import Placement, Recipe
from nxmi_export.workflow.build import build
from nxmi_export.workflow.export import ExportRequest, export
from nxmi_export.workflow.parity import ParityRequest, check_parity

pytestmark = [pytest.mark.glue, pytest.mark.slow]

LAYERS = 6  # MiniLM-L6
LINEARS = 6 * LAYERS
GLUE = [task for task in TASKS.values() if task.hub_config is not None]


def export_minilm(
    task: Task, glue_dir: Path, weights: Path, folder: Path, placement: Placement
) -> Artefact:
    """MiniLM with a seeded head, 2:4 + int8 after calibration on real text, exported."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(weights, num_labels=task.num_outputs)
    recipe = Recipe(placement=placement)
    insert_quantizers(model, recipe)
    project(compressed_linears(model))
    tokenizer = read_tokenizer_files(weights)
    split = load_dataset(task, task.dev_splits[0], glue_dir).head(64)
    data = encode(
        split,
        load_tokenizer(tokenizer, source=weights),
        input_names=("input_ids", "attention_mask", "token_type_ids"),
        max_length=128,
    )
    calibrate(model, data, batches=4, batch_size=16)
    write_checkpoint(
        folder / "model.pt",
        checkpoint_of(model, recipe=recipe, tokenizer=tokenizer, provenance={}),
    )
    return export(ExportRequest(str(folder / "model.pt"), folder / "artefact"))


@pytest.mark.parametrize("placement", Placement)
def test_every_prediction_on_sst2_is_kept_or_explained(
    placement: Placement, glue_dir: Path, minilm_dir: Path, tmp_path: Path
) -> None:
    task = task_named("sst2")
    artefact = export_minilm(task, glue_dir, minilm_dir, tmp_path, placement)
    request = ParityRequest(task, glue_dir, limit=200, shape_examples=8, code_examples=16)
    (split,) = check_parity(artefact, request, on_progress=lambda what, done, total: None)
    assert set(split.result.weights) == {"model.onnx", "model.cpu.onnx"}
    for weights in split.result.weights.values():
        assert (weights.compressed, weights.patterned, weights.equal) == (LINEARS, LINEARS, True)
    step = split.result.step(Stage.COMPRESSED, Stage.WRITTEN)
    assert step is not None
    assert step.comparison.examples == 200
    assert step.unexplained == ()


@pytest.mark.parametrize("task", GLUE, ids=lambda task: task.name)
def test_the_ladder_runs_on_every_glue_task(
    task: Task, glue_dir: Path, minilm_dir: Path, tmp_path: Path
) -> None:
    artefact = export_minilm(task, glue_dir, minilm_dir, tmp_path, Placement.SPARSE)
    request = ParityRequest(task, glue_dir, limit=24, shape_examples=0, code_examples=0)
    splits = check_parity(artefact, request, on_progress=lambda what, done, total: None)
    assert [split.result.rungs[Stage.WRITTEN].dataset.split for split in splits] == list(
        task.dev_splits
    )
    for split in splits:
        assert set(split.result.rungs[Stage.OPTIMIZED].scores) == set(task.metrics)
        step = split.result.step(Stage.COMPRESSED, Stage.WRITTEN)
        assert step is not None
        assert step.unexplained == ()


def test_the_engine_runs_every_linear_and_every_attention_in_int8(
    glue_dir: Path, minilm_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'nxmi-export[rtx]'")
    artefact = export_minilm(task_named("sst2"), glue_dir, minilm_dir, tmp_path, Placement.SPARSE)
    report = build(
        artefact,
        profile=ShapeProfile.default(position_limit=artefact.manifest.position_limit),
        library=find_library("tensorrt_rtx"),
        options=EngineOptions(),
    )
    assert report.coverage.verdict is Verdict.PROVED
    assert report.coverage.int8_linears == LINEARS
    assert report.coverage.int8_attentions == LAYERS
    assert report.sparsity.verdict is Verdict.UNPROVEN
