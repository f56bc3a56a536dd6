"""The search table: which cells there are, what is said of gaps, how a cell is trained."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.checkpoint import checkpoint_sha256
from nxmi_export.glue import task_named
from nxmi_export.recipe import Recipe, preset
from nxmi_export.search.space import DEFAULT_SCHEMES
from nxmi_export.workflow.compress import CompressRequest
from samples.fine_tune import CONSOLE, PRECISION
from samples.glue_table import cells as glue
from samples.glue_table.run import Place, recipe_of
from samples.search_table import __main__ as command
from samples.search_table import run as running
from samples.search_table.cells import (
    SEARCHED,
    TARGET,
    TASKS,
    UNIFORM,
    Budget,
    Cell,
    cell_named,
    cells,
    kinds,
)
from samples.search_table.choose import Choice, Configuration, Search, alone
from samples.search_table.run import choices_of
from samples.search_table.table import markdown, rank_correlation
from tests.cli.compress.compress_runs import write_dense, write_task
from tests.tiny_models import tiny_model


def _write(results: Path, cell: Cell, metric: float, divergence: float = 0.1) -> None:
    result = {
        "cell": {"task": cell.task, "budget": cell.budget, "kind": cell.kind},
        **running._asked(cell),
        "precision": PRECISION,
        "threads": 1,
        "machine": "a machine",
        "versions": {"torch": "2"},
        "searched": "once",
        "zero_shot": {"divergence": divergence, "metric": 0.5},
        "size": 0.125,
        "schemes": {"query": f"scheme of {cell.name}"},
        "dense_sha256": "weights",
        "metric": metric,
        "retention": metric / 0.8,
    }
    (results / f"{cell.name}.json").write_text(json.dumps(result))


def test_every_cell_has_a_name_of_its_own() -> None:
    every = list(cells())
    assert len({cell.name for cell in every}) == len(every) == len(TASKS) * (5 + 4)
    assert all(cell_named(cell.name) == cell for cell in every)
    assert not any(":" in cell.name for cell in every)  # which some file systems have no files of


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"^mrpc: no such cell; --list names them$"):
        cell_named("mrpc")


def test_uniform_configurations_are_all_that_fill_their_budget_to_the_last_bit() -> None:
    bits = {str(each): (each.nominal_bits, each.bits_with_metadata) for each in DEFAULT_SCHEMES}
    for place, budget in enumerate(UNIFORM):
        full = {text for text, both in bits.items() if both[place] == 32 * TARGET}
        assert set(UNIFORM[budget]) == full


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    text = markdown(tmp_path)
    assert "| nominal | layer | not run | not run | not run |  |  |" in text
    assert "- mrpc: too few to tell (n = 0)" in text


def test_the_divergence_before_training_stands_beside(tmp_path: Path) -> None:
    assert "| metadata | layer | not run | not run | not run |\n" in markdown(tmp_path)
    _write(tmp_path, Cell("stsb", "metadata", "layer"), 0.8, 0.21749)
    assert "| metadata | layer | not run | 0.217 | not run |\n" in markdown(tmp_path)


def test_an_average_needs_all_tasks(tmp_path: Path) -> None:
    for task in TASKS[:2]:
        _write(tmp_path, Cell(task, "nominal", "layer"), 0.8)
    assert "| nominal | layer | 80.0, 100.0% | 80.0, 100.0% | not run |  | 12.5 % |" in markdown(
        tmp_path
    )
    _write(tmp_path, Cell(TASKS[2], "nominal", "layer"), 0.72)
    assert "| 72.0, 90.0% | 96.7% | 12.5 % |" in markdown(tmp_path)


def test_searches_are_compared_task_by_task(tmp_path: Path) -> None:
    gain = "- nominal: `layer` beside one scheme everywhere, points on average: "
    between = "- nominal: `layer` beside `component`, points on average: "
    for task, metric in zip(TASKS, (0.81, 0.80, 0.82), strict=True):
        assert f"{gain}not known yet" in markdown(tmp_path)
        for kind in UNIFORM["nominal"]:
            _write(tmp_path, Cell(task, "nominal", kind), 0.8)
        for kind, searched in (("component", 0.7), ("layer", metric)):
            _write(tmp_path, Cell(task, "nominal", kind), searched)
    text = markdown(tmp_path)
    told = "+1.0 (mrpc +1.0 to 2:4+int8, stsb +0.0 to 2:4+int8, rte +2.0 to 2:4+int8)"
    assert f"{gain}{told}" in text
    assert f"{between}+11.0 (mrpc +11.0, stsb +10.0, rte +12.0)" in text


def test_the_aim_is_judged_by_the_winner_before_training_and_not_by_the_better_on_dev(
    tmp_path: Path,
) -> None:
    aim = "- nominal: the search keeps at least 99.5% of dense on average: "
    winners = dict(zip(TASKS, ("layer", "component", "layer"), strict=True))
    for task, winner in winners.items():
        assert f"{aim}not known yet" in markdown(tmp_path)
        for searched in SEARCHED:
            metric, divergence = (0.76, 0.1) if searched == winner else (0.8, 0.2)
            _write(tmp_path, Cell(task, "nominal", searched), metric, divergence)
    told = "(mrpc layer, stsb component, rte layer; alone `component` 98.3%, `layer` 96.7%)"
    assert f"{aim}missed, 95.0% {told}" in markdown(tmp_path)
    for task, winner in winners.items():
        _write(tmp_path, Cell(task, "nominal", winner), 0.8, 0.1)
    assert f"{aim}met, 100.0% (mrpc layer, stsb component, rte layer; alone " in markdown(tmp_path)
    # Of equals the first, as in a ranking.
    _write(tmp_path, Cell("rte", "nominal", "component"), 0.8, 0.1)
    assert f"{aim}met, 100.0% (mrpc layer, stsb component, rte component; " in markdown(tmp_path)


def test_the_uniform_rival_is_the_one_that_diverges_less_before_training(tmp_path: Path) -> None:
    for task in TASKS:
        less = "int4" if task == "stsb" else "2:4+int8"
        for kind in UNIFORM["nominal"]:  # the other one is the better one on dev
            metric, divergence = (0.7, 0.1) if kind == less else (0.8, 0.2)
            _write(tmp_path, Cell(task, "nominal", kind), metric, divergence)
        for searched in SEARCHED:
            _write(tmp_path, Cell(task, "nominal", searched), 0.75, 0.05)
    for searched in SEARCHED:
        assert (
            f"- nominal: `{searched}` beside one scheme everywhere, points on average: +5.0 "
            "(mrpc +5.0 to 2:4+int8, stsb +5.0 to int4, rte +5.0 to 2:4+int8)"
        ) in markdown(tmp_path)
    (tmp_path / "stsb_nominal_2-4+int8.json").unlink()
    assert "`layer` beside one scheme everywhere, points on average: not known yet" in markdown(
        tmp_path
    )


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ((0.9, 0.8, 0.7, 0.6, 0.5), "+1.00 (n = 5, p = 0.00)"),
        ((0.5, 0.6, 0.7, 0.8, 0.9), "-1.00 (n = 5, p = 0.00)"),
        ((0.8, 0.8, 0.8, 0.8, 0.8), "undefined, as all are equal (n = 5)"),
        ((0.9, 0.8, 0.7, 0.6), "too few to tell (n = 4)"),
    ],
)
def test_a_rank_correlation_is_positive_where_less_divergence_ended_better(
    metrics: tuple[float, ...], expected: str
) -> None:
    results = [
        {
            "zero_shot": {"divergence": 0.1 * place},
            "metric": metric,
            "schemes": {"query": kind},
        }
        for place, (kind, metric) in enumerate(zip(kinds("nominal"), metrics, strict=False), 1)
    ]
    assert rank_correlation(results) == expected


def test_a_configuration_that_was_chosen_twice_counts_once() -> None:
    results = [
        {
            "zero_shot": {"divergence": 0.1 * place},
            "metric": 0.9 - 0.1 * place,
            "schemes": {"query": kind, "key": "int8"},
        }
        for _ in UNIFORM
        for place, kind in enumerate(kinds("nominal"))
    ]
    assert rank_correlation(results) == "+1.00 (n = 5, p = 0.00)"


def test_scores_of_different_dense_models_are_not_ranked_together(tmp_path: Path) -> None:
    for budget in UNIFORM:
        for place, kind in enumerate(kinds(budget)):
            cell = Cell("mrpc", budget, kind)
            _write(tmp_path, cell, 0.9 - 0.1 * place, divergence=0.1 * place)
    assert "- mrpc: +1.00 (n = 9, p = 0.00)" in markdown(tmp_path)
    for kind in kinds("metadata"):
        path = tmp_path / f"mrpc_metadata_{kind}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"dense_sha256": "others"}))
    text = markdown(tmp_path)
    assert "- mrpc, nominal: +1.00 (n = 5, p = 0.00)" in text
    assert "- mrpc, metadata: too few to tell (n = 4)" in text
    assert "- stsb: too few to tell (n = 0)" in text


def test_a_table_of_two_searches_is_refused(tmp_path: Path) -> None:
    for kind in kinds("nominal"):
        _write(tmp_path, Cell("mrpc", "nominal", kind), 0.8)
    path = tmp_path / "mrpc_nominal_random.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"searched": "again"}))
    with pytest.raises(SystemExit, match=r"random.json: chosen by another search than others of"):
        markdown(tmp_path)


def test_a_finished_cell_is_not_run_again(tmp_path: Path) -> None:
    cell = Cell("mrpc", "nominal", "layer")
    _write(tmp_path, cell, 0.75)
    place = Place(tmp_path / "data", tmp_path / "models", tmp_path)
    assert running.run(cell, place, tmp_path)["metric"] == 0.75


def test_a_finished_cell_of_another_precision_is_not_run_again(tmp_path: Path) -> None:
    cell = Cell("mrpc", "nominal", "random")
    _write(tmp_path, cell, 0.75)
    path = tmp_path / f"{cell.name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "another"}))
    place = Place(tmp_path / "data", tmp_path / "models", tmp_path)
    running.train_ahead(cell, place, tmp_path)
    assert running.run(cell, place, tmp_path)["metric"] == 0.75


def test_a_result_of_other_settings_is_not_taken_for_the_cells(tmp_path: Path) -> None:
    cell = Cell("mrpc", "nominal", "layer")
    _write(tmp_path, cell, 0.75)
    path = tmp_path / f"{cell.name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {}}))
    with pytest.raises(SystemExit) as refusal:
        running.run(cell, Place(tmp_path, tmp_path, tmp_path), tmp_path)
    assert str(refusal.value) == (
        f"{path}: made with other settings; delete it to run the cell again"
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_cell_is_trained_with_the_settings_of_the_glue_table(tmp_path: Path, task: str) -> None:
    cell = Cell(task, "metadata", "random")
    deploy = recipe_of(glue.Cell(task, "deploy"))
    assert running._asked(cell)["settings"]["training"] == deploy.training.model_dump(mode="json")
    assert deploy.training.epochs == glue.EPOCHS[task]
    place = Place(tmp_path, tmp_path, tmp_path)
    request = running._request(cell, place, tmp_path, _configuration(deploy, "int4"))
    assert (request.seed, request.precision, request.resume) == (0, PRECISION, True)
    assert request.output == tmp_path / f"search_{task}_metadata" / "random.pt"


def _configuration(recipe: Recipe, *schemes: str) -> Configuration:
    by_linear = {f"linear {place}": scheme for place, scheme in enumerate(schemes)}
    return Configuration(recipe, by_linear, 0.125)


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """Weights, as far as a hash of them goes."""
    folder = tmp_path / "dense"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch, dense: Path) -> list[CompressRequest]:
    """What is asked to be trained, which nothing comes of but a metric."""
    asked: list[CompressRequest] = []

    def instead(request: CompressRequest) -> dict[str, object]:
        asked.append(request)
        metrics = {"compressed": {"primary": 0.7}, "retention": 0.9}
        source = {"sha256": checkpoint_sha256(dense)}
        return {
            "metrics": metrics,
            "source": source,
            "compression": {},
            "versions": {"torch": "2"},
            "seconds": 1.0,
        }

    monkeypatch.setattr(running, "_compressed", instead)
    return asked


def _run(
    monkeypatch: pytest.MonkeyPatch,
    cell: Cell,
    configuration: Configuration,
    dense: Path,
) -> dict[str, Any]:
    """Run `cell` as if `configuration` had been chosen for it, next to the dense model."""
    choice = Choice(configuration, 0.1, 0.8, "once")
    monkeypatch.setattr(running, "trained_dense", lambda cell, place: dense)
    monkeypatch.setattr(Search, "check", lambda self: "once")
    monkeypatch.setattr(Search, "chosen", lambda self: {cell.kind: choice})
    place = Place(dense.parent, dense.parent, dense.parent)
    return running.run(cell, place, dense.parent)


def test_a_configuration_that_was_trained_is_not_trained_again(
    monkeypatch: pytest.MonkeyPatch, dense: Path, compressed: list[CompressRequest]
) -> None:
    choice = _configuration(recipe_of(glue.Cell("mrpc", "deploy")), "int4", "int4")
    budgets: tuple[Budget, ...] = ("metadata", "nominal")
    first, second = (
        _run(monkeypatch, Cell("mrpc", budget, "int4"), choice, dense) for budget in budgets
    )
    assert len(compressed) == 1
    assert "taken_from" not in first
    assert second["taken_from"] == "mrpc_metadata_int4"
    of_search = ("cell", "taken_from")
    assert {key: each for key, each in second.items() if key not in of_search} == {
        key: each for key, each in first.items() if key not in of_search
    }
    # What was taken is told by the name of what was trained.
    third = _run(monkeypatch, Cell("mrpc", "nominal", "layer"), choice, dense)
    assert third["taken_from"] == "mrpc_metadata_int4"
    assert "- mrpc_nominal_int4 is mrpc_metadata_int4: the same recipe, trained once" in markdown(
        dense.parent
    )
    # Another task's is not the same, nor is one of other dense weights.
    _run(monkeypatch, Cell("rte", "nominal", "int4"), choice, dense)
    (dense / "model.safetensors").write_bytes(b"other weights")
    _run(monkeypatch, Cell("mrpc", "nominal", "component"), choice, dense)
    assert len(compressed) == 3


def test_an_account_of_another_recipe_is_not_taken_for_the_cells(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path, tmp_path)
    choice = _configuration(preset("w4"), "2:4+int4")
    request = running._request(Cell("mrpc", "nominal", "random"), place, tmp_path, choice)
    account = tmp_path / "search_mrpc_nominal" / "random.compress.json"
    account.parent.mkdir()
    account.write_text(json.dumps({"recipe": preset("deploy").as_mapping()}))
    with pytest.raises(SystemExit, match="made with other recipe; delete it"):
        running._compressed(request)


def test_an_account_of_other_dense_weights_is_not_taken_for_the_cells(tmp_path: Path) -> None:
    dense = tmp_path / "dense"
    dense.mkdir()
    (dense / "model.safetensors").write_bytes(b"weights")
    place = Place(tmp_path, tmp_path, tmp_path)
    choice = _configuration(preset("w4"), "2:4+int4")
    request = running._request(Cell("mrpc", "nominal", "random"), place, dense, choice)
    account = tmp_path / "search_mrpc_nominal" / "random.compress.json"
    account.parent.mkdir()
    facts = {"recipe": preset("w4").as_mapping(), "source": {"sha256": checkpoint_sha256(dense)}}
    account.write_text(json.dumps(facts))
    assert running._compressed(request) == facts
    (dense / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(SystemExit, match="compressed from another dense model than "):
        running._compressed(request)


def test_a_cell_trained_ahead_of_its_search_has_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    facts = {"source": {"sha256": checkpoint_sha256(tmp_path)}}

    def train(request: CompressRequest, on_progress: object) -> None:
        request.output.with_name("random.compress.json").write_text(json.dumps(facts))

    monkeypatch.setattr(running, "compress_model", train)
    place = Place(tmp_path, tmp_path, tmp_path)
    choice = _configuration(preset("w4"), "2:4+int4")
    request = running._request(Cell("mrpc", "nominal", "random"), place, tmp_path, choice)
    assert running._compressed(request) == facts


def test_all_that_needs_no_search_is_trained_before_any_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, dense: Path, compressed: list[CompressRequest]
) -> None:
    recipe = recipe_of(glue.Cell("mrpc", "deploy"))
    drawn = {kind: _configuration(recipe, kind) for kind in ("int4", "random")}
    place = Place(dense.parent, dense.parent / "models", dense.parent / "models")
    asked: list[Place] = []

    def trained_dense(cell: glue.Cell, place: Place) -> Path:
        asked.append(place)
        return dense

    def interrupted(self: Search) -> dict[str, Choice]:
        raise KeyboardInterrupt(len(compressed))

    monkeypatch.setattr(running, "trained_dense", trained_dense)
    monkeypatch.setattr(Search, "check", lambda self: "once")
    monkeypatch.setattr(Search, "compared", lambda self: drawn)
    monkeypatch.setattr(Search, "chosen", interrupted)
    monkeypatch.setattr(command, "RESULTS", dense.parent / "results")
    names = [f"mrpc_metadata_{kind}" for kind in ("random", "layer", "int4")]
    options = ["--data", str(place.data), "--models", str(place.models), "--only", *names]
    monkeypatch.setattr("sys.argv", ["search_table", *options])
    with pytest.raises(KeyboardInterrupt, match=r"^2$"):
        command.main()
    assert not list((dense.parent / "results").glob("*.json"))
    # Dense models have their results beside their weights, and leave those of the GLUE table alone.
    assert set(asked) == {place}


def test_a_cell_beside_those_of_another_search_is_refused_before_any_training(
    monkeypatch: pytest.MonkeyPatch, dense: Path, compressed: list[CompressRequest]
) -> None:
    configuration = _configuration(recipe_of(glue.Cell("mrpc", "deploy")), "int4")
    _write(dense.parent, Cell("mrpc", "nominal", "int4"), 0.8)
    _run(monkeypatch, Cell("mrpc", "nominal", "layer"), configuration, dense)
    monkeypatch.setattr(Search, "check", lambda self: "another")
    place = Place(dense.parent, dense.parent, dense.parent)
    for each in (running.run, running.train_ahead):
        with pytest.raises(SystemExit, match=r"nominal_int4.json: chosen by another search than "):
            each(Cell("mrpc", "nominal", "random"), place, dense.parent)
    assert len(compressed) == 1


def test_who_waits_for_another_process_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    said: list[str] = []

    def second() -> None:
        with alone(tmp_path):
            order.append("second")

    told = threading.Event()
    monkeypatch.setattr(CONSOLE, "print", lambda text: (said.append(text), told.set()))
    with ThreadPoolExecutor(1) as pool:
        with alone(tmp_path):
            waiting = pool.submit(second)
            assert told.wait(60)
            order.append("first")
        waiting.result(60)
    assert order == ["first", "second"]
    assert said == [f"{tmp_path}: waiting for another process that is at work there"]


@pytest.mark.slow
def test_the_configurations_of_a_budget_are_chosen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_task(tmp_path / "glue", task_named("mrpc"), train=64)
    model = write_dense(tmp_path / "dense")
    folder = tmp_path / "search_mrpc_metadata"
    path = choices_of(Cell("mrpc", "metadata", "random"), tmp_path / "results")
    search = Search("mrpc", "metadata", model, data, folder, path)
    drawn = search.compared()
    assert not folder.exists()
    first = search.chosen()
    assert set(first) == set(kinds("metadata"))
    assert {kind: first[kind].configuration for kind in drawn} == drawn
    assert set(drawn) == {"int4", "random"}
    assert set(drawn["int4"].schemes.values()) == {"int4"}
    assert all(each.configuration.size <= TARGET for each in first.values())
    # The winner is the best of all that keep the budget, which the others do.
    assert first["component"].divergence <= first["int4"].divergence
    assert first["component"].divergence <= first["random"].divergence
    journal = folder / "search" / "search.jsonl"
    written = journal.read_bytes()
    assert search.chosen() == first
    # An interruption after the search: it is read off its journal.
    path.unlink()
    assert search.chosen() == first
    assert journal.read_bytes() == written
    # Another machine has the choices, and nothing of the search.
    shutil.rmtree(folder)
    assert search.chosen() == first
    assert not (folder / "search").exists()
    other = write_dense(tmp_path / "other", tiny_model(seed=1))
    # Threads are no reason to search again; another model is.
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    assert search.chosen() == first
    elsewhere = replace(search, model=other)
    for each in (elsewhere.check, elsewhere.chosen):
        with pytest.raises(SystemExit, match="made with other model weights; go on where that was"):
            each()
    assert {search.check()} == {each.searched for each in first.values()}
    assert json.loads(path.read_text())["threads"] < 64
