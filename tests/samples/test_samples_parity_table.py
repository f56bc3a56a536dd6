"""Dev sets and honest exports: which there are, what the tables say, what is stored."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nxmi_export.glue import TASKS, load_dataset, task_named
from nxmi_export.recipe import Recipe, preset
from samples.parity_table import run as of_table
from samples.parity_table.__main__ import RESULTS
from samples.parity_table.cells import Cell, cell_named, cells, ladder
from samples.parity_table.constant_answers import CLASSES
from samples.parity_table.run import Place, changed_settings, run
from samples.parity_table.summary import summary_of
from samples.parity_table.table import POINTS, markdown, points

GLUE = [task for task in TASKS.values() if task.hub_config is not None]
STEPS = (
    ("dense", "compressed"),
    ("compressed", "captured"),
    ("compressed", "written"),
    ("compressed", "optimized"),
    ("written", "optimized"),
    ("written", "shifted"),
)
# Every rung but the last has half a point more.
PRIMARY = dict.fromkeys(("dense", "compressed", "captured", "written", "shifted"), 0.505)
STORED = sorted(RESULTS.glob("*.json"))


def _document(cell: Cell, *, unexplained: int = 0) -> dict[str, Any]:
    """What a parity run writes, of the things that are read, with one change in each step."""
    task = task_named(cell.task)
    failures = ["one is unexplained"] if unexplained else []
    split = {
        "dataset": {"split": task.dev_splits[0], "examples": 71, "sha256": "0"},
        "failures": failures,
        "checks": [{}, {}, {}],
        "rungs": {
            name: {"examples": 71, "primary": score, "scores": dict.fromkeys(task.metrics, 0.25)}
            for name, score in (PRIMARY | {"optimized": 0.5}).items()
        },
        "steps": [
            {
                "reference": reference,
                "candidate": candidate,
                "comparison": {
                    "examples": 64 if candidate == "shifted" else 71,
                    "changes": [{}],
                    "different": 3,
                    "largest_logit_gap": 0.25,
                },
                "replayed": [{"explained": True}, {"explained": not unexplained}],
                "unexplained": list(range(unexplained)),
            }
            for reference, candidate in STEPS
        ],
        "weights": {"model.onnx": {"equal": True}},
        "shapes": [
            {"settings": [{"changed": 2, "unexplained": 1}, {"changed": 1, "unexplained": 0}]}
        ],
        "probes": {
            "sizes": {"positions": 512},
            "reach": {"tokens": 512},
            "steps": [{"replayed": [{"explained": True}]}],
        },
    }
    return {"ok": not failures, "conclusion": "equivalent", "warnings": [], "splits": [split]}


def _write(results: Path, cell: Cell, document: Mapping[str, Any]) -> None:
    result = {
        "cell": asdict(cell),
        **summary_of(document),
        "processor_seconds": 90,
        "peak_mb": 1200,
    }
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
def test_every_recipe_is_one_that_exports(cell: Cell) -> None:
    base = preset(cell.recipe).as_mapping()
    settings = changed_settings(base, cell.changes)
    recipe = Recipe.from_mapping(settings, source=cell.name)
    assert recipe.as_mapping() == base | {
        name: base[name] | change if isinstance(change, dict) else change
        for name, change in cell.changes.items()
    }
    assert recipe.activations.mode == "static"


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    text = markdown(tmp_path)
    assert text.count("| not run |") == len(GLUE) + len(list(cells()))
    assert f"0 of {len(list(cells()))} exports ran; 0 failed one of 0 checks." in text


def test_the_tables_show_scores_changes_and_verdicts(tmp_path: Path) -> None:
    cell = cell_named("wnli_deploy")
    _write(tmp_path, cell, _document(cell))
    text = markdown(tmp_path)
    assert (
        "| wnli | 71 | accuracy | 50.50 | 50.50 | 50.50 | 50.50 | 50.00 | 1 (0) | 1 (0) | -0.50 "
        "| -0.50 | 3 of the first 64 | 3 (1) | passed | 1.5 | 1200 |" in text
    )
    assert "| wnli_deploy | deploy, 1 epoch | 71 | 1 | 0 | all hold |" in text
    assert (
        "; 0 failed one of 3 checks. Of 1 dev sets of the ladder, optimized kernels (written → "
        "optimized) moved the score by at most 0.1 points on 0, and the whole deployment "
        "(compressed → optimized) on 0." in text
    )


def test_what_kernels_move_is_told_from_what_the_whole_deployment_moves(tmp_path: Path) -> None:
    cell = cell_named("wnli_deploy")
    document = _document(cell)
    document["splits"][0]["rungs"]["written"]["primary"] = 0.5
    _write(tmp_path, cell, document)
    assert (
        "(written → optimized) moved the score by at most 0.1 points on 1, and the whole "
        "deployment (compressed → optimized) on 0." in markdown(tmp_path)
    )


@pytest.mark.parametrize(
    ("name", "score", "shown"),
    [
        ("cola_deploy", 0.0, "0.00†"),
        ("cola_deploy", 0.0181, "1.81"),
        ("wnli_deploy", 31 / 71, "43.66†"),
        ("rte_deploy", 146 / 277, "52.71†"),
        ("rte_deploy", 147 / 277, "53.07"),
        ("mrpc_deploy", (279 / 408 + 2 * 279 / (408 + 279)) / 2, "74.80†"),
        ("mrpc_deploy", (129 / 408 + 0) / 2, "15.81†"),
        ("stsb_deploy", 0.0, "0.00"),
    ],
)
def test_a_dense_score_that_one_class_for_all_would_have_is_marked(
    tmp_path: Path, name: str, score: float, shown: str
) -> None:
    cell = cell_named(name)
    document = _document(cell)
    document["splits"][0]["rungs"]["dense"]["primary"] = score
    _write(tmp_path, cell, document)
    text = markdown(tmp_path)
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {cell.task} | 71"))
    assert f" | {shown} | 50.50 | 50.50 |" in row
    sentence = (
        "† is what always answering one class scores: such a model may not tell its examples "
        "apart, and that few of its answers change is then little evidence."
    )
    assert (sentence in text.splitlines()) is shown.endswith("†")


@pytest.mark.glue
def test_the_classes_are_counted_as_the_data_have_them(glue_dir: Path) -> None:
    for (task, split), counts in CLASSES.items():
        labels = load_dataset(task_named(task), split, glue_dir).labels
        assert tuple(np.bincount(labels).tolist()) == counts


def test_every_dev_set_with_classes_is_counted() -> None:
    assert set(CLASSES) == {
        (task.name, split) for task in GLUE if not task.is_regression for split in task.dev_splits
    }


def test_the_metric_is_what_the_task_reports_and_not_its_first(tmp_path: Path) -> None:
    cell = cell_named("mrpc_deploy")
    _write(tmp_path, cell, _document(cell))
    assert "| mrpc | 71 | mean of accuracy and f1 | 50.50 |" in markdown(tmp_path)


def test_a_failed_gate_is_in_the_table_with_its_reason(tmp_path: Path) -> None:
    cell = cell_named("wnli_deploy")
    _write(tmp_path, cell, _document(cell, unexplained=1))
    text = markdown(tmp_path)
    assert "| 1 (1) | 1 (1) | -0.50 | -0.50 | 3 of the first 64 | 3 (1) | FAILED |" in text
    assert "| 1 | 5 | one is unexplained |" in text
    assert "; 1 failed one of 3 checks. " in text


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


def test_a_ladder_runs_the_graph_before_any_pass_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def measured(module: str, *arguments: object) -> tuple[int, float]:
        asked.append(tuple(map(str, arguments)))
        raise SystemExit("asked")

    monkeypatch.setattr(of_table, "_run_measured", measured)
    place = Place(tmp_path, tmp_path, tmp_path / "results")
    for name in ("wnli_deploy", "wnli_w4_seed1"):
        cell = cell_named(name)
        for made in (f"{name}.artefact", f"wnli-{cell.seed}"):
            (tmp_path / made).mkdir()
        with pytest.raises(SystemExit, match=r"^asked$"):
            run(cell, place)
    ladder_options, other_options = asked
    assert "--captured" in ladder_options
    assert "--captured" not in other_options
    assert "--drift" in other_options


def test_stored_exports_are_of_every_task_and_at_least_twenty() -> None:
    """Else the sentences below would hold of a few."""
    stored, wanted = {path.stem for path in STORED}, {cell.name for cell in ladder()}
    if missing := wanted - stored:
        pytest.skip(
            f"{len(missing)} of {len(wanted)} tasks were not run; "
            "python -m samples.parity_table --data DIR runs them"
        )
    assert {cell.task for cell in ladder() if cell.name in stored} == {task.name for task in GLUE}
    assert len(stored & {cell.name for cell in cells()}) >= 20


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
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
        probes = split["probes"]
        assert probes["tokens"] == probes["positions"]
        assert probes["replays_unexplained"] == 0 < probes["replayed"]
        assert replayed >= ({"captured"} if cell.captured else set())
        # What moves a score further is a prediction, and that a rounding tie.
        (deployed,) = (
            step
            for step in judged
            if (step["reference"], step["candidate"]) == ("compressed", "optimized")
        )
        moved = abs(points(split, "compressed", "optimized"))
        assert moved <= POINTS or deployed["changed"] > deployed["unexplained"] == 0
