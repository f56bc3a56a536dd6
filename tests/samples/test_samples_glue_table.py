"""The GLUE table's bookkeeping: which cells there are, what is read back, what is said of gaps."""

import json
from pathlib import Path

import pytest

from nxmi_export.checkpoint import write_checkpoint
from nxmi_export.compression import checkpoint_of
from nxmi_export.recipe import Recipe, preset
from samples.fine_tune import PRECISION
from samples.glue_table import run as running
from samples.glue_table.cells import (
    ABLATED_METHOD,
    ABLATIONS,
    CONTINUED,
    DENSE,
    METHODS,
    PROXIMAL,
    TASKS,
    Cell,
    cell_named,
    cells,
)
from samples.glue_table.masks import recount
from samples.glue_table.run import Place, _settings, run_cell
from samples.glue_table.table import markdown
from tests.cli.compress.compress_runs import write_dense
from tests.tiny_models import compressed_model, tiny_model


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(data=tmp_path, models=tmp_path, results=tmp_path)


def _write(
    place: Place, cell: Cell, metric: float, retention: float | None = None, **more: object
) -> None:
    result = {
        "metric": metric,
        "settings": _settings(cell, place),
        "precision": PRECISION,
        "threads": 1,
        "machine": "a machine",
        "versions": {"torch": "2"},
        **more,
    }
    if not cell.is_dense:
        dense = metric / retention if retention else metric
        result |= {"scores": {"dense": {"primary": dense}}}
    if retention is not None:
        result["retention"] = retention
    place.result_of(cell).write_text(json.dumps(result))


def _row(text: str, method: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {method} |"))
    return [part.strip() for part in line.strip("|").split("|")]


def test_every_cell_has_a_name_of_its_own() -> None:
    every = list(cells())
    assert len({cell.name for cell in every}) == len(every)
    assert all(cell_named(cell.name) == cell for cell in every)


def test_dense_models_come_before_what_starts_from_them() -> None:
    every = list(cells())
    for index, cell in enumerate(every):
        assert Cell(cell.task, "dense", cell.seed) in every[: index + 1]


def test_every_method_is_planned_on_every_task() -> None:
    assert {Cell(task, method) for task in TASKS for method in METHODS} <= set(cells())


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_an_ablation_is_the_preset_but_for_one_ingredient(ablation: str, place: Place) -> None:
    changed = _settings(Cell("mrpc", ablation), place)
    whole = preset(ABLATED_METHOD).as_mapping()
    different = [key for key in whole if whole[key] != changed[key]]
    assert set(different) == set(ABLATIONS[ablation])
    Recipe.from_mapping(changed, source=ablation)


def test_the_control_is_deploy_without_compression(place: Place) -> None:
    control, whole = (_settings(Cell("cola", each), place) for each in (CONTINUED, "deploy"))
    assert [key for key in whole if whole[key] != control[key]] == ["default"]
    assert control["default"] == "dense"


def test_proximal_admm_is_the_published_one_with_the_sparsity_of_deploy(place: Place) -> None:
    ours, published, deployed = (
        _settings(Cell("cola", each), place) for each in (PROXIMAL, "admm", "deploy")
    )
    assert [key for key in published if published[key] != ours[key]] == ["sparsity", "training"]
    different = [
        key for key, value in deployed["sparsity"].items() if value != ours["sparsity"][key]
    ]
    assert different == ["initial"]
    assert ours["training"] == deployed["training"]


def test_a_folder_of_other_settings_is_made_anew(place: Place) -> None:
    cell = Cell("mrpc", "deploy")
    folder = running._own_folder(cell, place)
    (folder / "model.compress.json").write_text("{}")
    assert running._own_folder(cell, place) == folder
    assert (folder / "model.compress.json").exists()  # an interrupted run goes on
    (folder / running.MADE_AS).write_text(json.dumps({"precision": "another"}))
    running._own_folder(cell, place)
    assert [path.name for path in folder.iterdir()] == [running.MADE_AS]


def test_what_was_made_from_other_dense_weights_is_not_taken_for_the_cells(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell("mrpc", "deploy")
    folder = running._own_folder(cell, place)
    dense = place.folder_of(Cell("mrpc", "dense")) / "dense"
    dense.mkdir(parents=True)
    (dense / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(running, "trained_dense", lambda *arguments: dense)
    account = {"source": {"sha256": "another"}, "metrics": {}}
    (folder / "model.compress.json").write_text(json.dumps(account))
    with pytest.raises(
        SystemExit, match=r"compress.json: compressed from another dense model than "
    ):
        run_cell(cell, place)


def test_what_was_not_run_says_so(place: Place) -> None:
    text = markdown(place.results)
    assert _row(text, "dense") == ["dense", *["not run"] * 5, ""]
    assert _row(text, "asp")[5] == ""  # SST-2 was never planned


def test_the_table_tells_where_its_cells_were_run(place: Place) -> None:
    _write(place, Cell("mrpc", "deploy"), 0.8)
    _write(place, Cell("rte", "deploy"), 0.7)
    assert markdown(place.results).endswith(
        f"\n\n2 of {len(list(cells()))} cells were run.\n"
        f"- 2 in {PRECISION}, OMP_NUM_THREADS=1, a machine, torch 2"
    )


def test_seeds_become_a_mean_and_a_spread(place: Place) -> None:
    for seed, metric in enumerate((0.80, 0.82, 0.84)):
        _write(place, Cell("mrpc", "deploy", seed), metric, retention=metric / 0.8)
    assert _row(markdown(place.results), "deploy")[1] == "82.0 ± 2.0 (3 seeds), 102.5%"


def test_ablations_stand_beside_runs_of_their_own_seed(place: Place) -> None:
    for seed, metric in enumerate((0.80, 0.90)):
        _write(place, Cell("mrpc", "w4", seed), metric)
    methods, ablations = markdown(place.results).split("| method | cola | mrpc |")
    assert _row(methods, "w4")[1] == "85.0 ± 7.1 (2 seeds)"
    assert _row(ablations, "w4") == ["w4", "not run", "80.0"]


def test_an_average_needs_all_four_tasks(place: Place) -> None:
    for task in TASKS[:3]:
        _write(place, Cell(task, "asp"), 0.5, retention=0.98)
    assert _row(markdown(place.results), "asp")[-1] == ""
    _write(place, Cell(TASKS[3], "asp"), 0.5, retention=0.94)
    assert _row(markdown(place.results), "asp")[-1] == "97.0%"


@pytest.mark.parametrize(
    ("kept", "told"),
    [(1.0, ("met", "met")), (0.9951, ("met", "missed")), (0.99, ("missed", "missed"))],
)
def test_aims_are_met_on_average_or_missed(
    place: Place, kept: float, told: tuple[str, str]
) -> None:
    for task, more in zip(TASKS, (0.05, -0.05, 0.03, -0.03), strict=True):
        assert "- `deploy` keeps at least 99.5% of dense on average: not known yet" in markdown(
            place.results
        )
        _write(place, Cell(task, "deploy"), 0.5 * (kept + more), retention=kept + more)
    lines = markdown(place.results).splitlines()
    assert [line for line in lines if line.startswith("- `deploy`")] == [
        f"- `deploy` keeps at least {aim} of dense on average: {word} so far, {kept:.1%} "
        "(seeds: mrpc 1, rte 1, stsb 1, cola 1)"
        for aim, word in zip(("99.5%", "100.0%"), told, strict=True)
    ] + [
        f"- `deploy` by other averages: {kept:.1%} of dense's average score, as published; "
        f"{kept - 0.05 / 3:.1%} without mrpc",
        "- `deploy` keeps of `continued`, on average: not known yet",
    ]


def test_the_published_average_is_of_scores(place: Place) -> None:
    for task, dense, metric in zip(TASKS, (0.8, 0.6, 0.8, 0.2), (0.8, 0.6, 0.8, 0.1), strict=True):
        _write(place, Cell(task, DENSE), dense)
        _write(place, Cell(task, "w4"), metric, retention=metric / dense)
        _write(place, Cell(task, DENSE, 1), 0.9)  # of a seed that the method was not run with
    text = markdown(place.results)
    assert "- `w4` by other averages: 95.8% of dense's average score, as published" in text


def test_what_starts_from_dense_weights_of_another_training_is_told(place: Place) -> None:
    before = "- runs that start from a dense model that was trained again: "
    _write(place, Cell("mrpc", DENSE), 0.8)
    _write(place, Cell("mrpc", "w4"), 0.8, retention=1.0)
    assert before not in markdown(place.results)
    _write(place, Cell("mrpc", "deploy"), 0.81, retention=0.9)
    told = f"{before}`deploy` mrpc, seed 0 (90.00, not 80.00)"
    assert told in markdown(place.results).splitlines()


def test_an_aim_is_judged_for_good_once_all_seeds_were_run(place: Place) -> None:
    planned = [cell for cell in cells() if cell.method == "deploy" and cell.task in TASKS]
    for cell in planned[:-1]:
        _write(place, cell, 0.5, retention=1.0)
    assert "99.5% of dense on average: met so far, 100.0%" in markdown(place.results)
    _write(place, planned[-1], 0.5, retention=1.0)
    assert "99.5% of dense on average: met, 100.0%" in markdown(place.results)


def test_what_chose_its_masks_is_told(place: Place) -> None:
    before = "- mask entries that magnitude projection of the dense weights sets otherwise: "
    assert f"{before}not known yet" in markdown(place.results)
    for task, moved in zip(TASKS, (0.1, 0.2, 0.3, 0.4), strict=True):
        _write(place, Cell(task, "deploy"), 0.5, mask_moved=moved)
        _write(place, Cell(task, "asp"), 0.5, mask_moved=0.0)
        _write(place, Cell(task, CONTINUED), 0.5, mask_moved=None)
        if task != "cola":
            _write(place, Cell(task, "w4"), 0.5, mask_moved=0.1)  # a mean of three tasks is none
    assert f"{before}`deploy` 25.00%, `asp` 0.00%" in markdown(place.results).splitlines()


def test_a_method_that_keeps_nothing_on_a_task_has_an_average(place: Place) -> None:
    for task, kept in zip(TASKS, (0.9, 0.9, 0.9, 0.0), strict=True):
        _write(place, Cell(task, "w4"), 0.5, retention=kept)
    assert "missed so far, 67.5% (seeds" in markdown(place.results)


def test_what_is_kept_of_the_control_is_told_task_by_task(place: Place) -> None:
    for task, metric in zip(TASKS, (0.8, 0.4, 0.4, 0.4), strict=True):
        _write(place, Cell(task, CONTINUED), 0.8)
        _write(place, Cell(task, "w4"), metric)
        _write(place, Cell(task, "w4", 1), 0.1)  # the control has one seed
    shares = "mrpc 100.0%, rte 50.0%, stsb 50.0%, cola 50.0%"
    told = f"62.5% ({shares}; seeds: mrpc 1, rte 1, stsb 1, cola 1)"
    assert f"- `w4` keeps of `continued`, on average: {told}" in markdown(place.results)


@pytest.mark.parametrize("method", ["admm", PROXIMAL])
def test_admm_is_compared_with_asp_task_by_task(place: Place, method: str) -> None:
    before = f"- `{method}` beside `asp`, 2:4 alone, points on average (published: +1.7): "
    for task, gain in zip(TASKS, (0.01, 0.02, -0.01, 0.0), strict=True):
        assert f"{before}not known yet" in markdown(place.results)
        _write(place, Cell(task, "asp"), 0.7)
        _write(place, Cell(task, method), 0.7 + gain)
    seeds = "seeds: mrpc 1, rte 1, stsb 1, cola 1"
    told = f"{before}+0.5 (mrpc +1.0, rte +2.0, stsb -1.0, cola +0.0; {seeds})"
    assert told in markdown(place.results)


def test_a_finished_cell_is_not_run_again(place: Place) -> None:
    _write(place, Cell("mrpc", "deploy"), 0.8)
    assert run_cell(Cell("mrpc", "deploy"), place)["metric"] == 0.8


def test_a_result_of_other_settings_is_not_taken_for_the_cells(place: Place) -> None:
    cell = Cell("mrpc", "deploy")
    path = place.result_of(cell)
    path.write_text(json.dumps({"settings": preset("w4").as_mapping(), "precision": "another"}))
    with pytest.raises(SystemExit) as refusal:
        run_cell(cell, place)
    assert str(refusal.value) == (
        f"{path}: made with other settings and precision; delete it to run the cell again"
    )


def test_a_dense_result_of_another_precision_is_not_replaced(place: Place) -> None:
    dense = Cell("mrpc", "dense")
    _write(place, dense, 0.8)
    path = place.result_of(dense)
    text = json.dumps(json.loads(path.read_text()) | {"precision": "another"})
    path.write_text(text)
    with pytest.raises(SystemExit, match="made with other precision"):
        run_cell(Cell("mrpc", "deploy"), place)
    assert path.read_text() == text


def test_runs_for_choosing_settings_have_files_of_their_own(tmp_path: Path) -> None:
    changes = {"sparsity": {"pull": 0.3}}
    place = Place(tmp_path, tmp_path, tmp_path, "holdout", changes)
    name = place.result_of(Cell("mrpc", "deploy")).name
    assert name == "mrpc_deploy_0_holdout_sparsity.pull=0.3.json"
    assert _settings(Cell("mrpc", "deploy"), place)["sparsity"]["pull"] == 0.3


def test_a_dense_model_begun_on_another_task_comes_after_it(place: Place) -> None:
    every = list(cells())
    begun = [cell for cell in every if cell.is_dense and cell.begins_on is not None]
    assert begun
    for cell in begun:
        assert cell.begins_on in every[: every.index(cell)]


def test_a_dense_model_begun_elsewhere_is_not_taken_for_the_cells(place: Place) -> None:
    cell = Cell("rte", "dense")
    _write(place, cell, 0.56)  # trained from the pre-trained weights
    with pytest.raises(SystemExit):
        run_cell(cell, place)


def test_masks_are_counted_on_the_kept_models(place: Place, tmp_path: Path) -> None:
    cell, without = Cell("mrpc", "deploy"), Cell("mrpc", "asp")
    kept = checkpoint_of(compressed_model(), recipe=Recipe(), tokenizer={}, provenance={})
    write_dense(tmp_path / Cell("mrpc", DENSE).name / "dense", tiny_model())
    (tmp_path / cell.name).mkdir()
    write_checkpoint(tmp_path / cell.name / "model.pt", kept)
    for each in (cell, without):
        _write(place, each, 0.5, mask_moved=0.25)
    before = json.loads(place.result_of(cell).read_text())
    assert dict(recount([cell, without], tmp_path, place.results)) == {cell: 0.0}
    assert json.loads(place.result_of(cell).read_text()) == before | {"mask_moved": 0.0}
    assert json.loads(place.result_of(without).read_text())["mask_moved"] == 0.25
