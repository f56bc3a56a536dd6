"""The table of engines: which cells there are, what is said of gaps, what one build tells."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig

from nxmi_export.artefact import FP16_MODEL, Artefact
from nxmi_export.backends.tensorrt_engine import find_library
from nxmi_export.errors import CapabilityMissing
from nxmi_export.workflow.export import ExportRequest, export
from samples.cell_table import read_result
from samples.engine_table import run as running
from samples.engine_table.__main__ import RESULTS
from samples.engine_table.artefacts import Place, artefact_of
from samples.engine_table.build_one import peak_megabytes
from samples.engine_table.cells import CAPABILITIES, MODELS, PLACEMENTS, Cell, cell_named, cells
from samples.engine_table.run import run
from samples.engine_table.table import markdown
from samples.random_bert import write_random_bert

CELL = Cell("bert-base", "fp32", "sparse", "sm86")
TINY = BertConfig(
    vocab_size=96,
    max_position_embeddings=64,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
)
ENGINE: dict[str, Any] = {
    "library": {"name": "tensorrt_rtx", "version": "1.7.1"},
    "seconds": 4.25,
    "processor_seconds": 4.0,
    "peak_mb": 1065,
    "linears": {"total": 72, "int8": 72, "int8_output": 0},
    "attentions": {"total": 12, "fused_int8": 11},
    "merged_inputs": {"total": 12, "merged": 12},
    "mapping": {"products": 62, "unmapped": [], "missing": ["lost/MatMul"]},
    "kernels": 138,
    "plan": {"bytes": 197_005_076, "sha256": "0"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the artefact of BERT-base is, which is a tiny one here."""
    folder = tmp_path_factory.mktemp("models")
    write_random_bert(folder / "bert-base-sparse.pt", config=TINY)
    artefact = folder / "bert-base-sparse.artefact"
    export(ExportRequest(str(folder / "bert-base-sparse.pt"), artefact))
    return Place(folder, None)


@pytest.fixture(scope="module")
def artefact(place: Place) -> Artefact:
    return artefact_of(CELL, place)


def _write(results: Path, cell: Cell, **outcome: Any) -> None:
    (results / f"{cell.name}.json").write_text(json.dumps({"cell": {}} | outcome))


def test_every_cell_has_a_name_of_its_own() -> None:
    every = list(cells())
    assert len({cell.name for cell in every}) == len(every)
    assert len(every) == len(MODELS) * 2 * len(PLACEMENTS) * len(CAPABILITIES)
    assert all(cell_named(cell.name) == cell for cell in every)


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"^sm86: no such cell; --list names them$"):
        cell_named("sm86")


def test_a_model_that_needs_data_says_so(tmp_path: Path) -> None:
    cell = replace(CELL, model="minilm")
    with pytest.raises(SystemExit, match=r"^minilm_fp32_sparse_sm86: --data is needed to make "):
        artefact_of(cell, Place(tmp_path, None))


def test_one_build_tells_everything(artefact: Artefact) -> None:
    try:
        library = find_library("tensorrt_rtx")
    except CapabilityMissing as missing:
        pytest.skip(str(missing))
    result = running.build(CELL, artefact)
    engine = result["engine"]
    assert engine["library"] == {"name": "tensorrt_rtx", "version": library.version}
    assert engine["linears"] == {"total": 12, "int8": 12, "int8_output": 0}
    assert engine["attentions"] == {"total": 2, "fused_int8": 2}
    assert engine["merged_inputs"] == {"total": 2, "merged": 2}
    # Per block: merged inputs, attention, three linears; then pooler and classifier.
    assert engine["mapping"] == {"products": 12, "unmapped": [], "missing": []}
    assert engine["exceptions"] == []
    assert 50 < engine["peak_mb"] < 16_000
    assert result["graph_sha256"] == artefact.manifest.files["model.onnx"].sha256


def test_a_graph_that_the_artefact_lacks_is_not_run_and_tried_again(
    place: Place, tmp_path: Path
) -> None:
    cell = replace(CELL, precision="fp16")
    result = run(cell, place, tmp_path)
    assert result["not_run"] == f"the artefact has no {FP16_MODEL}"
    assert read_result(cell.name, tmp_path) == result
    assert f"| FP16 | sparse | sm86 | not run: the artefact has no {FP16_MODEL} |" in markdown(
        tmp_path
    )
    (tmp_path / f"{cell.name}.json").write_text('{"not_run": "an older reason"}')
    assert run(cell, place, tmp_path) == result


def test_a_build_that_fails_leaves_its_last_line(artefact: Artefact) -> None:
    result = running.build(replace(CELL, capability="sm10"), artefact)
    assert list(result) == ["failed"]
    assert result["failed"].startswith(("nxmi_export.errors.UsageError", "nxmi_export.errors.Cap"))


def test_a_finished_cell_is_not_run_again(tmp_path: Path) -> None:
    _write(tmp_path, CELL, engine=ENGINE)
    assert run(CELL, Place(tmp_path / "nowhere", None), tmp_path)["engine"] == ENGINE


def test_the_table_shows_shares_and_what_is_left_over(tmp_path: Path) -> None:
    _write(tmp_path, CELL, engine=ENGINE)
    text = markdown(tmp_path)
    assert (
        "| bert-base | FP32 | sparse | sm86 | 72/72 | 0 | 11/12 | 12/12 | 0, 1 of 62 | 138 | 197.0 "
        "| 4.2 (4.0) | 1065 |" in text
    )
    assert "- tensorrt_rtx 1.7.1" in text
    assert "| bert-base | FP32 | sparse | sm80 | not run |" in text


def test_peak_memory_is_this_process_s_own() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert peak_megabytes() * 1e6 > 0.99 * pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_stored_engine_is_int8_and_accounted_for(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    assert cell_named(path.stem).name == "{model}_{precision}_{placement}_{capability}".format(
        **result["cell"]
    )
    if "engine" not in result:
        pytest.skip(result.get("failed") or result["not_run"])
    engine = result["engine"]
    assert engine["linears"]["int8"] == engine["linears"]["total"] > 0
    assert engine["attentions"]["fused_int8"] == engine["attentions"]["total"] > 0
    assert engine["merged_inputs"]["merged"] == engine["attentions"]["total"]
    assert engine["mapping"]["unmapped"] == engine["mapping"]["missing"] == []
