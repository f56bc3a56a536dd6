"""Dev sets and honest exports: which there are, what the tables say, what is stored."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.glue import TASKS, task_named
from nxmi_export.recipe import Recipe, preset
from samples.parity_table.__main__ import RESULTS
from samples.parity_table.cells import Cell, cell_named, cells, ladder
from samples.parity_table.run import Place, changed_settings, run
from samples.parity_table.summary import summary_of
from samples.parity_table.table import markdown

GLUE = [task for task in TASKS.values() if task.hub_config is not None]
STEPS = (("dense", "compressed"), ("compressed", "written"), ("written", "optimized"))
RUNGS = ("dense", "compressed", "written", "shifted", "optimized")


def _document(cell: Cell, *, unexplained: int = 0) -> dict[str, Any]:
    """What a parity run writes, of the things that are read, with one change in each step."""
    task = task_named(cell.task)
    failures = ["one is unexplained"] if unexplained else []
    split = {
        "dataset": {"split": task.dev_splits[0], "examples": 71, "sha256": "0"},
        "failures": failures,
        "checks": [{}, {}, {}],
        "rungs": {name: {"scores": dict.fromkeys(task.metrics, 0.5)} for name in RUNGS},
        "steps": [
            {
                "reference": reference,
                "candidate": candidate,
                "comparison": {"changes": [{}], "largest_logit_gap": 0.25},
                "replayed": [{"explained": True}, {"explained": not unexplained}],
                "unexplained": list(range(unexplained)),
            }
            for reference, candidate in STEPS
        ],
        "weights": {"model.onnx": {"equal": True}},
        "shapes": [
            {"settings": [{"changed": 2, "unexplained": 1}, {"changed": 1, "unexplained": 0}]}
        ],
    }
    return {"ok": not failures, "conclusion": "equivalent", "warnings": [], "splits": [split]}


def _write(results: Path, cell: Cell, document: Mapping[str, Any]) -> None:
    result = {"cell": asdict(cell), **summary_of(document), "seconds": 90, "peak_mb": 1200}
    (results / f"{cell.name}.json").write_text(json.dumps(result), encoding="utf-8")


def test_every_cell_has_a_name_of_its_own_and_every_task_a_ladder() -> None:
    every = list(cells())
    assert len({cell.name for cell in every}) == len(every) >= 20
    assert all(cell_named(cell.name) == cell for cell in every)
    assert {cell.task for cell in ladder()} == {task.name for task in GLUE}


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"^sst: no such cell; --list names them$"):
        cell_named("sst")


@pytest.mark.parametrize("cell", list(cells()), ids=lambda cell: cell.name)
def test_every_recipe_is_one(cell: Cell) -> None:
    settings = changed_settings(preset(cell.recipe).as_mapping(), cell.changes)
    recipe = Recipe.from_mapping(settings, source=cell.name)
    assert {name: recipe.as_mapping()[name] for name in cell.changes} == dict(cell.changes)


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    text = markdown(tmp_path)
    assert text.count("| not run |") == len(GLUE) + len(list(cells()))
    assert f"0 of {len(list(cells()))} exports ran; 0 failed one of 0 checks." in text


def test_the_tables_show_scores_changes_and_verdicts(tmp_path: Path) -> None:
    cell = cell_named("wnli_deploy")
    _write(tmp_path, cell, _document(cell))
    text = markdown(tmp_path)
    assert (
        "| wnli | 71 | accuracy | 50.00 | 50.00 | 50.00 | 50.00 | 50.00 | 1 (0) | 1 (0) | +0.00 "
        "| 3 (1) | passed | 1.5 | 1200 |" in text
    )
    assert "| wnli_deploy | deploy, 1 epoch | 71 | 2 | 0 | all hold |" in text
    assert "; 0 failed one of 3 checks." in text


def test_a_failed_gate_is_in_the_table_with_its_reason(tmp_path: Path) -> None:
    cell = cell_named("wnli_deploy")
    _write(tmp_path, cell, _document(cell, unexplained=1))
    text = markdown(tmp_path)
    assert "| 1 (1) | 1 (1) | +0.00 | 3 (1) | FAILED |" in text
    assert "| 2 | 2 | one is unexplained |" in text
    assert "; 1 failed one of 3 checks." in text


def test_a_finished_cell_is_not_run_again_but_one_of_another_recipe_is_refused(
    tmp_path: Path,
) -> None:
    cell = cell_named("rte_ptq_attention")
    place = Place(tmp_path / "nowhere", tmp_path / "nowhere", tmp_path)
    _write(tmp_path, cell, _document(cell))
    assert run(cell, place)["ok"]
    other = Cell(cell.name, cell.task, "w4")
    with pytest.raises(SystemExit, match=r"^rte_ptq_attention: made of another recipe; delete "):
        run(other, place)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_no_stored_export_fails_a_gate_or_has_an_unexplained_change(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    cell = cell_named(path.stem)
    assert result["cell"] == asdict(cell)
    assert result["ok"]
    assert [split["split"] for split in result["splits"]] == list(task_named(cell.task).dev_splits)
    for split in result["splits"]:
        assert all(split["weights_equal"].values())
        assert split["weights_equal"].keys() >= {"model.onnx", "model.cpu.onnx"}
        judged = [step for step in split["steps"] if step["reference"] != "dense"]
        assert len(judged) >= 3
        assert all(step["unexplained"] == 0 for step in judged)
        replayed = {step["candidate"] for step in judged if step["replayed"] > 0}
        assert replayed >= {"written", "optimized"}
        assert all(step["replays_unexplained"] == 0 for step in judged)
        assert split["shapes"]["unexplained"] == 0 < split["shapes"]["settings"]
