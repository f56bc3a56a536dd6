"""INT8 embeddings from the recipe to the engine: smaller by their bytes, and the same numbers."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from nxmi_export.artefact import Artefact
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.tensorrt_engine import EngineOptions, Library, ShapeProfile
from nxmi_export.checkpoint import write_checkpoint
from nxmi_export.compression import checkpoint_of
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.build import build
from nxmi_export.workflow.export import ExportRequest, export
from nxmi_export.workflow.inspect import StoredTable, inspect
from tests.pipeline.exports import SIZES, batch
from tests.tiny_models import compressed_model

WORDS, WIDTH = 2000, SIZES["hidden_size"]
FLOAT, CODE, SCALE = 4, 1, 4  # bytes
ROWS = {"word": WORDS, "position": 64, "token_type": 2}
SAVED = sum(ROWS.values()) * (WIDTH * (FLOAT - CODE) - SCALE)
PROFILE = ShapeProfile.parse("min=1x1,opt=8x32,max=16x64", position_limit=64)


def _export(folder: Path, embeddings: str) -> Artefact:
    recipe = Recipe.from_mapping({"embeddings": embeddings}, source="test")
    model = compressed_model(recipe=recipe, vocab_size=WORDS, **SIZES)
    checkpoint = checkpoint_of(
        model, recipe=recipe, tokenizer={"vocab.txt": b"[PAD]\n"}, provenance={}
    )
    write_checkpoint(folder / "model.pt", checkpoint)
    return export(ExportRequest(str(folder / "model.pt"), folder / "model.artefact"))


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return _export(tmp_path_factory.mktemp("dense"), "dense")


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return _export(tmp_path_factory.mktemp("int8"), "int8")


def _bytes(artefact: Artefact) -> int:
    names = ("model.onnx", "model.onnx.data")
    return sum(artefact.manifest.files[name].bytes for name in names)


def _plan_bytes(artefact: Artefact, library: Library) -> int:
    report = build(artefact, profiles=[PROFILE], library=library, options=EngineOptions())
    return report.result.size_bytes


def test_the_files_are_smaller_by_three_of_four_bytes(dense: Artefact, int8: Artefact) -> None:
    saved = _bytes(dense) - _bytes(int8)
    assert saved == pytest.approx(SAVED, rel=0.02)  # nodes and alignment are in the files too


def test_the_manifest_says_how_tables_are_stored(dense: Artefact, int8: Artefact) -> None:
    for artefact, storage in ((dense, "dense"), (int8, "int8")):
        tables = artefact.manifest.embeddings
        assert {name: (t.storage, t.rows, t.width) for name, t in tables.items()} == {
            f"bert.embeddings.{name}_embeddings": (storage, rows, WIDTH)
            for name, rows in ROWS.items()
        }
    before, after = dense.manifest.embeddings, int8.manifest.embeddings
    saved = sum(before[name].bytes - after[name].bytes for name in before)
    assert saved == SAVED


def test_inspect_lists_the_tables_of_both(int8: Artefact) -> None:
    expected = {
        f"bert.embeddings.{name}_embeddings": StoredTable("int8", rows, WIDTH)
        for name, rows in ROWS.items()
    }
    for subject in (int8.directory, int8.source()):
        inspection = inspect(str(subject))
        assert inspection.embeddings == expected
        assert json.dumps(inspection.as_json())


def test_encoder_linears_are_stored_as_without_it(dense: Artefact, int8: Artefact) -> None:
    assert int8.manifest.linears.keys() == dense.manifest.linears.keys()
    assert [each.storage for each in int8.manifest.linears.values()] == [
        each.storage for each in dense.manifest.linears.values()
    ]


def test_the_cpu_file_reads_codes_of_single_rows(int8: Artefact) -> None:
    graph = onnx.load(int8.path("model.cpu.onnx"), load_external_data=False).graph
    names = {f"bert.embeddings.{name}_embeddings" for name in ROWS}
    for name in names:
        kinds = [node.op_type for node in graph.node if node.name.startswith(f"{name}/")]
        assert kinds == ["Gather", "Cast", "Gather", "Mul"]
    logits = {}
    feeds = {name: ids.numpy() for name, ids in batch().items()}
    for name in ("model.onnx", "model.cpu.onnx"):
        with OnnxRuntimeRunner(int8.path(name), optimize=False, threads=1) as runner:
            logits[name] = runner.run(feeds)["logits"]
    np.testing.assert_array_equal(logits["model.onnx"], logits["model.cpu.onnx"])


def test_an_engine_keeps_the_tables_int8(dense: Artefact, int8: Artefact, rtx: Library) -> None:
    before, after = (_plan_bytes(each, rtx) for each in (dense, int8))
    # As constants: kernels are of the same size but for what they are fused with.
    assert before - after > 0.9 * SAVED
