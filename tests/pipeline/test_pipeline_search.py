"""Whole searches: what they leave, killed and continued, and in several processes."""

import dataclasses
import itertools
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy.stats import spearmanr

from nxmi_export.__main__ import main
from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression import insert_quantizers, restore
from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.errors import OutputError, UsageError
from nxmi_export.glue import task_named
from nxmi_export.latency import LatencyTable
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.budget import Budget, SizeBudget, feasible
from nxmi_export.search.conditional import RADII
from nxmi_export.search.latency_model import LatencyModel
from nxmi_export.search.per_layer import Proposals, proposals
from nxmi_export.search.progress import (
    CandidateScored,
    LinearPrepared,
    Progress,
    Remark,
    SensitivityDone,
    SolutionFound,
)
from nxmi_export.search.space import SearchSpace, schemes_of
from nxmi_export.sole_writer import sole_writer
from nxmi_export.workflow.search import LatencyRequest, SearchRequest, SearchResult, search_model
from nxmi_export.workflow.search.data import SLICE_REMARK
from tests.cli.compress.compress_runs import write_dense, write_task
from tests.pipeline.search_program import SCHEMES, request_for, run_search
from tests.tiny_models import tiny_model

EXAMPLES = 128  # half of them the slice


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp("dense") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("data"), task_named("sst2"), train=EXAMPLES)


@dataclasses.dataclass(frozen=True)
class Finished:
    request: SearchRequest
    result: SearchResult
    heard: list[Progress]

    @property
    def facts(self) -> dict[str, Any]:
        return _facts(self.request.output)


@pytest.fixture(scope="module")
def finished(dense: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    request = request_for(dense, data, tmp_path_factory.mktemp("search") / "found")
    heard: list[Progress] = []
    result = search_model(request, heard.append)
    assert result is not None
    return Finished(request, result, heard)


def _facts(folder: Path) -> dict[str, Any]:
    """search.json without what depends on the clock and on where the files are."""
    facts: dict[str, Any] = json.loads((folder / "search.json").read_text())
    del facts["seconds"]
    return facts


def test_the_folder_holds_recipes_pictures_and_the_account(finished: Finished) -> None:
    folder = finished.request.output
    assert {path.name for path in folder.iterdir()} == {
        *("search.json", "search.jsonl", "search.html", "pareto.svg", "latency.json", "ranked")
    }
    ElementTree.fromstring((folder / "pareto.svg").read_text())
    assert "<html" in (folder / "search.html").read_text()


def test_every_ranked_recipe_gives_each_linear_what_the_ranking_says(finished: Finished) -> None:
    named = {entry["recipe"]: entry for entry in finished.facts["ranked"]}
    named |= {entry["recipe"]: entry for entry in finished.facts["winners"].values()}
    files = sorted((finished.request.output / "ranked").iterdir())
    assert [f"ranked/{path.name}" for path in files] == sorted(named)
    for path in files:
        entry, recipe = named[f"ranked/{path.name}"], Recipe.from_yaml(path)
        model = tiny_model()
        insert_quantizers(model, recipe)
        found = {name: str(each.scheme) for name, each in compressed_linears(model).items()}
        if entry["origin"] == "layer":
            assert found == entry["schemes"]
        else:
            assert {name: str(scheme) for name, scheme in recipe.schemes.items()} == entry[
                "schemes"
            ]
        kept = recipe.model_copy(update={"schemes": {}, "overrides": {}, "default": SCHEMES[0]})
        base = finished.request.recipe.model_copy(update={"default": SCHEMES[0]})
        assert kept == base


def test_a_recipe_says_what_it_is(finished: Finished) -> None:
    comment = [
        line
        for line in (finished.request.output / "ranked" / "01.yaml").read_text().splitlines()
        if line.startswith("#")
    ]
    best = finished.result.ranked[0].measured
    assert comment[0] == f"# Number 1 of a search on sst2, one choice per {best.origin}."
    assert comment[1] == f"# Budget: {finished.result.budget_in_words}."
    train = "nxmi-export compress MODEL --task sst2 --recipe 01.yaml"
    assert comment[-1] == f"# Train it, in the folder of this file: {train}"


def test_the_ranking_is_by_divergence_and_within_the_budget(finished: Finished) -> None:
    facts = finished.facts
    divergences = [entry["divergence"] for entry in facts["ranked"]]
    assert len(divergences) == 3
    assert divergences == sorted(divergences)
    assert divergences == [entry["divergence"] for entry in facts["measured"][:3]]
    for entry in facts["measured"]:
        assert entry["with_metadata"] <= 0.16 + 1e-9
        assert entry["seconds"] <= facts["budget"]["latency"]["seconds"] * (1 + 1e-9)
        assert entry["nominal"] <= entry["with_metadata"]
    assert facts["budget"]["latency"]["share"] == pytest.approx(0.65)
    assert facts["budget"]["latency"]["source"] == "analytical"


def test_both_searches_have_a_winner_and_the_layers_are_no_repetition(finished: Finished) -> None:
    facts = finished.facts
    assert facts["winners"].keys() == {"component", "layer"}
    names = {
        tuple(entry["schemes"].values())
        for entry in facts["measured"]
        if entry["origin"] == "layer"
    }
    # a choice per component, laid out over the two layers
    repeated = {
        tuple(entry["schemes"].values()) * 2
        for entry in facts["measured"]
        if entry["origin"] == "component"
    }
    assert names
    assert not names & repeated


def test_stopping_early_loses_none_of_the_best(finished: Finished) -> None:
    # With so small an error nothing is given up before its last example could still matter.
    folder = finished.request.output.parent / "patient"
    patient = dataclasses.replace(finished.request, output=folder, error=1e-12)
    result = search_model(patient)
    assert result is not None
    assert result.ranked == finished.result.ranked
    hasty, slow = finished.result.stops["component"], result.stops["component"]
    assert 0 < hasty.examples < slow.examples <= slow.examples_possible
    assert hasty.stopped > 0
    assert hasty.error == 0.025  # half of it for each search


def test_progress_counts_to_the_end_and_tells_the_best(finished: Finished) -> None:
    prepared = [each for each in finished.heard if isinstance(each, LinearPrepared)]
    assert [each.number for each in prepared] == list(range(1, 13))
    for origin in ("component", "layer"):
        probed = [
            each
            for each in finished.heard
            if isinstance(each, SensitivityDone) and each.origin == origin and not each.refinement
        ]
        by_centre = [list(each) for _, each in itertools.groupby(probed, lambda p: p.uniform)]
        assert len(by_centre) == (2 if origin == "component" else 1)
        for each in by_centre:
            assert [report.number for report in each] == list(range(1, each[0].total + 1))
        scored = [
            each
            for each in finished.heard
            if isinstance(each, CandidateScored) and each.origin == origin
        ]
        rounds = [list(each) for _, each in itertools.groupby(scored, lambda c: c.refinement)]
        for each in rounds:
            assert [report.number for report in each] == list(range(1, each[0].total + 1))
        stops = finished.result.stops[origin]
        assert sum(each[-1].stopped for each in rounds) == stops.stopped
        assert sum(each[-1].examples for each in rounds) == stops.examples
        winner = finished.result.winners[origin].measured
        assert scored[-1].leaders[0].divergence == winner.divergence
        assert scored[-1].leaders[0].size == winner.with_metadata
        assert {each.reused for each in scored} == {0}
    drawn = [each for each in finished.heard if isinstance(each, SolutionFound)]
    assert drawn[-1].number == drawn[-1].total


def test_the_journal_has_a_line_for_every_probe_and_score(finished: Finished) -> None:
    lines = [
        json.loads(line)
        for line in (finished.request.output / "search.jsonl").read_text().splitlines()
    ]
    events = [line["event"] for line in lines]
    assert events[0] == "search"
    assert events.count("sensitivity") == (6 + 12) * len(SCHEMES)
    assert events.count("score") == sum(finished.result.candidates.values())


def _lines(finished: Finished, event: str) -> list[dict[str, Any]]:
    lines = (finished.request.output / "search.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


def test_per_component_those_come_first_that_changes_of_uniform_ones_predict_to_be_best(
    finished: Finished,
) -> None:
    marginals = [line for line in _lines(finished, "marginal") if len(line["around"]) == 6]
    around = dict.fromkeys(tuple(line["around"]) for line in marginals)
    assert list(around) == [("int4",) * 6, ("2:4+int8",) * 6]  # 2:4 alone is over the budget
    assert len(marginals) == 2 * (6 * (len(SCHEMES) - 1) + 1)
    measured = {
        tuple(each["schemes"].values()): each["predicted_conditionally"]
        for each in finished.facts["measured"]
        if each["origin"] == "component"
    }
    order = [
        measured[tuple(line["schemes"])]
        for line in _lines(finished, "score")
        if line["origin"] == "component" and not line["stopped"]
    ]
    assert len(order) == len(measured) > 3
    assert order == sorted(order)
    assert finished.facts["agreement"]["component"]["all"].keys() == {
        *("predicted", "predicted_with_interactions", "predicted_conditionally")
    }


def test_the_picture_shows_scores_of_the_whole_slice(finished: Finished) -> None:
    measured = {tuple(each["schemes"].values()): each for each in finished.facts["measured"]}
    drawn = [*finished.facts["frontier"], *finished.facts["uniform"]]
    assert {each["scheme"] for each in finished.facts["uniform"]} == set(map(str, SCHEMES))
    again = [each for each in drawn if tuple(each["schemes"].values()) in measured]
    assert again
    for each in again:
        expected = measured[tuple(each["schemes"].values())]
        names = ("divergence", "metric", "nominal", "with_metadata", "seconds")
        assert all(each[name] == expected[name] for name in names)
    assert all(each["divergence"] > 0 and each["seconds"] > 0 for each in drawn)


def test_refinements_measure_single_changes_of_the_best_and_score_near_it(
    finished: Finished,
) -> None:
    marginals = [line for line in _lines(finished, "marginal") if len(line["around"]) == 12]
    centres = list(dict.fromkeys(tuple(line["around"]) for line in marginals))
    # every other option of every linear, and the candidate itself
    assert len(marginals) == len(centres) * (12 * (len(SCHEMES) - 1) + 1)
    refined = [
        each
        for each in finished.facts["measured"]
        if each["origin"] == "layer" and each["predicted_conditionally"] is not None
    ]
    assert refined
    for each in refined:
        changes = [
            sum(a != b for a, b in zip(each["schemes"].values(), centre, strict=True))
            for centre in centres
        ]
        assert any(1 <= number <= max(RADII) for number in changes)


def test_a_refinement_never_loses_the_best_that_was_known(
    finished: Finished, tmp_path: Path
) -> None:
    without = dataclasses.replace(finished.request, output=tmp_path / "found", refinements=0)
    result = search_model(without)
    assert result is not None
    best = finished.result.ranked[0].measured.divergence
    assert best <= result.ranked[0].measured.divergence
    assert not any("were to be kept" in each for each in result.remarks)
    layers = [each for each in result.measured if each.origin == "layer"]
    assert all(each.predicted_conditionally is None for each in layers)
    assert "refinements" not in result.agreement["layer"]


def test_the_account_says_how_predictions_order_what_was_measured(finished: Finished) -> None:
    facts = finished.facts
    for origin, sets in facts["agreement"].items():
        of_origin = [each for each in facts["measured"] if each["origin"] == origin]
        found = sets["all"]["predicted"]
        assert found["configurations"] == len(of_origin)
        expected = spearmanr(
            [each["predicted"] for each in of_origin], [each["divergence"] for each in of_origin]
        ).statistic
        assert found["spearman"] == pytest.approx(expected)
    assert facts["agreement"]["layer"]["refinements"].keys() == {
        *("predicted", "predicted_with_interactions", "predicted_conditionally")
    }


def test_the_account_says_what_a_share_of_the_latency_covers(finished: Finished) -> None:
    told = (
        "latencies, and the budget's 0.65x, cover the encoder's linears alone: what A100 80GB SXM "
        "spends outside them is not in the table"
    )
    assert finished.facts["remarks"][0] == told
    assert Remark(told) in finished.heard


def test_an_optimum_that_is_not_proved_is_told(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finished.facts["gaps"] == {"layer": 0.0}

    def full(*arguments: Any, **options: Any) -> Proposals:
        return dataclasses.replace(proposals(*arguments, **options), gap=0.0123)

    monkeypatch.setattr("nxmi_export.workflow.search.stages.proposals", full)
    heard: list[Progress] = []
    request = dataclasses.replace(
        finished.request, output=tmp_path / "found", per="layer", refinements=0, keep=99
    )
    result = search_model(request, heard.append)
    assert result is not None
    facts = _facts(tmp_path / "found")
    assert facts["gaps"] == {"layer": 0.0123}
    complete = len(facts["measured"])
    assert len(facts["ranked"]) == complete < 99
    assert facts["remarks"][-1] == (
        f"99 configurations were to be kept, and {complete} were scored completely"
    )
    told = (
        "the solver did not prove its best within 2000 nodes: by what each scheme costs alone, "
        "another configuration per layer may lose up to 1.2 % less"
    )
    assert told in facts["remarks"]
    assert Remark(told) in heard


def test_the_account_says_that_its_metrics_are_of_training_examples(finished: Finished) -> None:
    assert finished.facts["remarks"][-1] == SLICE_REMARK
    assert Remark(SLICE_REMARK) in finished.heard


def test_a_budget_that_only_layers_keep_is_searched_per_layer(
    finished: Finished, tmp_path: Path
) -> None:
    # Small int4 and fast 2:4+int8 have to share the size, which a component cannot do in itself.
    request, target = finished.request, 0.14
    assert request.latency is not None
    table = LatencyTable.read(request.output / "latency.json")
    fast = {gemm: s / (1 + (gemm.kind == "int8 2:4")) for gemm, s in table.entries.items()}
    table = dataclasses.replace(table, entries=fast)
    table.write(tmp_path / "table.json")
    rows = request.latency.batch * request.latency.sequence
    model = LatencyModel.of(tiny_model(), table, request.recipe.placement, rows)
    space = SearchSpace.of(tiny_model(), "component", SCHEMES)
    small = feasible(space, Budget(size=SizeBudget(target, metadata=True)))
    least = min(model.seconds(schemes_of(space, each)) for each in small)
    latency = dataclasses.replace(
        request.latency,
        share=0.999 * least / model.dense_seconds,
        device=None,
        table=tmp_path / "table.json",
    )
    request = dataclasses.replace(
        request, output=tmp_path / "found", target=target, latency=latency
    )
    result = search_model(request)
    assert result is not None
    assert result.winners.keys() == {"layer"}
    assert result.stops["layer"].error == 0.05  # nothing is left for another search
    assert result.remarks[0].startswith("searched per layer alone, as per component it cannot be (")
    assert result.measured
    assert latency.share is not None
    for each in result.measured:
        assert each.with_metadata <= target
        assert each.seconds is not None
        assert each.seconds <= latency.share * model.dense_seconds


def test_a_ranked_recipe_is_ready_to_compress_with(finished: Finished, tmp_path: Path) -> None:
    recipe = finished.request.output / "ranked" / "01.yaml"
    request = finished.request
    output = tmp_path / "model.pt"
    arguments = ["compress", request.model, "--task", "sst2", "--data", str(request.data_dir)]
    arguments += ["--recipe", str(recipe), "--epochs", "0", "-o", str(output)]
    assert main(arguments) == 0
    compressed = compressed_linears(restore(read_checkpoint(str(output))))
    wanted = tiny_model()
    insert_quantizers(wanted, Recipe.from_yaml(recipe))
    assert {name: each.scheme for name, each in compressed.items()} == {
        name: each.scheme for name, each in compressed_linears(wanted).items()
    }
    assert len({str(each.scheme) for each in compressed.values()}) > 1


def test_a_finished_search_is_not_replaced_unasked(finished: Finished) -> None:
    folder = finished.request.output
    for resume in (False, True):
        with pytest.raises(OutputError) as error:
            search_model(dataclasses.replace(finished.request, resume=resume))
        assert str(error.value) == (
            f"{folder}: expected a folder without a search in it, found a finished one; "
            "choose another with -o, or pass --overwrite to replace it"
        )


def test_an_infeasible_budget_is_refused_before_anything_is_computed(
    finished: Finished, tmp_path: Path
) -> None:
    heard: list[Progress] = []
    request = dataclasses.replace(finished.request, output=tmp_path / "none", target=0.01)
    with pytest.raises(UsageError, match="budget of the search") as error:
        search_model(request, heard.append)
    assert "found 0.125 of the float32 size with metadata" in str(error.value)
    assert not any(isinstance(each, LinearPrepared) for each in heard)
    assert not request.output.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"target": None, "latency": None},
            "budget of the search: expected a target size or a latency, found neither; "
            "give one of them, or both",
        ),
        (
            {"latency": LatencyRequest(share=0.5)},
            "latency of the search: expected a table or a device, found neither; "
            "name one of the two",
        ),
        (
            {"latency": LatencyRequest(table=Path("t.json"), device="a100")},
            "latency of the search: expected a table or a device, found both; name one of the two",
        ),
        (
            {"latency": LatencyRequest(device="a100", share=0.5, seconds=1.0)},
            "latency budget: expected a time or a share of the dense model's, found both; "
            "give one of the two",
        ),
        (
            {"latency": LatencyRequest(table=Path("t.json"), threads=2)},
            "latency of the search: expected no number of threads beside a table, found 2; "
            "leave --threads out; the table was measured with its own",
        ),
        ({"keep": 0}, "keep: expected at least 1, found 0; give a larger number"),
        (
            {"error": 1.0},
            "error: expected a probability between 0 and 1, found 1; give one such as 0.05",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(
    changes: dict[str, Any], message: str, finished: Finished, tmp_path: Path
) -> None:
    request = dataclasses.replace(finished.request, output=tmp_path / "none", **changes)
    with pytest.raises(UsageError) as error:
        search_model(request)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("conditions", "rest", "asked", "found"),
    [
        ({"batch": 8}, {"softmax": 1e-3}, "batch 4096", "batch 8"),
        (
            {"sequence": 32, "encoder": "bert, 12 blocks"},
            {"softmax": 1e-3},
            "sequence 64, encoder bert, 2 blocks",
            "sequence 32, encoder bert, 12 blocks",
        ),
        # Fits; or has linears alone, which are found by their shapes: the budget is what fails.
        ({}, {"softmax": 1e-3}, None, None),
        ({"batch": 8}, {}, None, None),
    ],
)
def test_a_table_of_another_batch_or_model_is_refused(
    conditions: dict[str, Any],
    rest: dict[str, float],
    asked: str | None,
    found: str | None,
    finished: Finished,
    tmp_path: Path,
) -> None:
    table = LatencyTable.read(finished.request.output / "latency.json")
    path = tmp_path / "table.json"
    made = {**table.conditions, **conditions}
    dataclasses.replace(table, conditions=made, rest=rest).write(path)
    latency = LatencyRequest(table=path, share=1, batch=4096, sequence=64)
    request = dataclasses.replace(
        finished.request, output=tmp_path / "found", latency=latency, target=0.01
    )
    with pytest.raises(UsageError) as error:
        search_model(request)
    if found is None:
        assert error.value.subject == "budget of the search"
    else:
        assert (error.value.subject, error.value.found) == (str(path), found)
        assert error.value.expected == f"latencies of {asked}"


def test_times_that_a_budget_was_refused_by_are_kept(finished: Finished, tmp_path: Path) -> None:
    latency = LatencyRequest(device="onnxruntime", share=1e-3, batch=1, sequence=8, threads=1)
    request = dataclasses.replace(finished.request, output=tmp_path / "none", latency=latency)
    with pytest.raises(UsageError, match=r"--latency-table .*latency.json keeps these") as error:
        search_model(request)
    table = tmp_path / "none" / "latency.json"
    again = dataclasses.replace(latency, device=None, table=table, threads=None)
    with pytest.raises(UsageError) as repeated:
        search_model(dataclasses.replace(request, latency=again))
    assert repeated.value.found == error.value.found
    assert re.search(r" ms \([\d.]+x\) at best", error.value.found)
    assert table.exists()


def test_a_refused_budget_leaves_a_finished_search_as_it_is(
    finished: Finished, tmp_path: Path
) -> None:
    folder = tmp_path / "found"
    shutil.copytree(finished.request.output, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    latency = LatencyRequest(device="onnxruntime", share=1e-3, batch=1, sequence=8, threads=1)
    request = dataclasses.replace(finished.request, output=folder, latency=latency, overwrite=True)
    with pytest.raises(UsageError, match=r"budget of the search: ") as error:
        search_model(request)
    assert "keeps these times" not in str(error.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_scores_and_latencies_go_by_is_said_before_the_search(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nxmi_export.workflow.search.run.Ready.of", killed)
    table = LatencyTable.read(finished.request.output / "latency.json")
    path = tmp_path / "busy.json"
    dataclasses.replace(table, conditions={**table.conditions, "spread": 2.04}).write(path)
    request = dataclasses.replace(
        finished.request,
        output=tmp_path / "found",
        recipe=finished.request.recipe.model_copy(update={"embeddings": "int8"}),
        latency=LatencyRequest(table=path, share=0.65, batch=4096, sequence=64),
    )
    heard: list[Progress] = []
    with pytest.raises(KeyboardInterrupt):
        search_model(request, heard.append)
    told = " ".join(each.text for each in heard if isinstance(each, Remark))
    assert "runs of one linear took up to 2.0 times its table entry; the machine was busy" in told
    assert "the recipe's tables are int8, and so are those of the dense model" in told
    usual = " ".join(each.text for each in finished.heard if isinstance(each, Remark))
    assert "busy" not in usual
    assert "tables are int8" not in usual


def test_a_search_that_replaces_another_leaves_none_of_its_recipes(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "found"
    shutil.copytree(finished.request.output, folder)
    monkeypatch.setattr("nxmi_export.workflow.search.run.Ready.of", killed)
    with pytest.raises(KeyboardInterrupt):
        search_model(dataclasses.replace(finished.request, output=folder, overwrite=True))
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert files <= {"search.jsonl", "latency.json"}


KEPT = LatencyRequest(device="onnxruntime", share=1.0, batch=4096, sequence=64)


@pytest.mark.parametrize(
    ("change", "asked", "found"),
    [
        ({"device": "l4"}, "device l4", "device onnxruntime"),
        ({"batch": 8, "sequence": 32}, "batch 8, sequence 32", "batch 4096, sequence 64"),
        ({"threads": 2}, "threads 2", "threads chosen by onnxruntime"),
    ],
)
def test_a_resumed_search_takes_no_latencies_of_another(
    change: dict[str, Any], asked: str, found: str, finished: Finished, tmp_path: Path
) -> None:
    made = LatencyTable.read(finished.request.output / "latency.json")
    kept = {"device": "onnxruntime", "threads": "chosen by onnxruntime"}
    path = tmp_path / "latency.json"
    dataclasses.replace(made, conditions={**made.conditions, **kept}).write(path)
    (tmp_path / "search.jsonl").write_bytes(b"")
    latency = dataclasses.replace(KEPT, **change)
    request = dataclasses.replace(
        finished.request, output=tmp_path, resume=True, latency=latency, target=0.01
    )
    with pytest.raises(UsageError) as error:
        search_model(request)
    assert str(error.value) == (
        f"{path}: expected latencies of {asked}, found {found}; resume with the settings it was "
        "made with, or pass --overwrite without --resume to start anew"
    )


def test_latencies_without_a_journal_are_not_those_of_a_resumed_search(
    finished: Finished, tmp_path: Path
) -> None:
    shutil.copy(finished.request.output / "latency.json", tmp_path)  # the a100's
    latency = LatencyRequest(device="l4", share=1e-3, sequence=64)
    request = dataclasses.replace(finished.request, output=tmp_path, resume=True, latency=latency)
    with pytest.raises(UsageError, match=r"ms on L4 \(analytical\), found"):
        search_model(request)


@pytest.mark.parametrize("kept", ["latency.json", "elsewhere.json"])
def test_a_table_that_is_named_stays_and_is_there_to_resume_with(
    kept: str, finished: Finished, tmp_path: Path
) -> None:
    table = tmp_path / kept
    shutil.copy(finished.request.output / "latency.json", table)
    latency = LatencyRequest(table=table, share=0.65, batch=4096, sequence=64)
    request = dataclasses.replace(
        finished.request, output=tmp_path, latency=latency, per="component"
    )

    def interrupt(progress: Progress) -> None:
        if isinstance(progress, SensitivityDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_model(request, interrupt)
    assert LatencyTable.read(tmp_path / "latency.json") == LatencyTable.read(table)
    result = search_model(dataclasses.replace(request, resume=True))
    assert result is not None
    winner = finished.result.winners["component"]
    assert result.winners["component"].measured == winner.measured


def test_a_launcher_of_another_precision_is_refused(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(UsageError, match=r"expected fp32, .*found bf16 in the settings of accel"):
        search_model(dataclasses.replace(finished.request, output=tmp_path / "none"))


def test_a_regression_is_searched_by_its_metric(dense: Path, tmp_path: Path) -> None:
    model = write_dense(tmp_path / "model", tiny_model(num_labels=1))
    folder = write_task(tmp_path / "data", task_named("stsb"), train=64)
    request = dataclasses.replace(
        request_for(model, folder, tmp_path / "found", task="stsb"),
        per="component",
        objective="metric",
        latency=None,
        target=0.13,
    )
    result = search_model(request)
    assert result is not None
    assert result.stops["component"].stopped == 0  # there is no bound for a correlation
    metrics = [each.metric for each in result.measured]
    assert metrics == sorted(metrics, key=lambda each: -(each or 0.0))
    assert result.winners.keys() == {"component"}
    assert result.budget["latency"] is None


def test_per_layer_alone_needs_no_search_per_component(finished: Finished, tmp_path: Path) -> None:
    request = dataclasses.replace(finished.request, output=tmp_path / "layer", per="layer")
    result = search_model(request)
    assert result is not None
    assert {each.origin for each in result.measured} == {"layer"}
    assert result.stops["layer"].error == 0.05


def test_a_linear_may_stay_dense_where_that_is_among_the_schemes(
    dense: Path, data: Path, tmp_path: Path
) -> None:
    request = request_for(dense, data, tmp_path / "found")
    schemes = tuple(map(Scheme.parse, ("dense", "int8")))
    found = search_model(dataclasses.replace(request, schemes=schemes, target=0.5, latency=None))
    assert found is not None
    assert all("dense" in each.measured.schemes.values() for each in found.ranked)


def test_where_components_leave_nothing_the_layers_have_no_winner(
    dense: Path, data: Path, tmp_path: Path
) -> None:
    request = request_for(dense, data, tmp_path / "found")
    one = request.schemes[-1]
    search_model(dataclasses.replace(request, schemes=(one,), target=1.0), lambda progress: None)
    facts = _facts(tmp_path / "found")
    assert list(facts["winners"]) == ["component"]
    (only,) = facts["ranked"]
    assert set(only["schemes"].values()) == {str(one)}


def test_another_search_cannot_be_resumed(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "resumed"
    folder.mkdir()
    journal = (finished.request.output / "search.jsonl").read_bytes()
    (folder / "search.jsonl").write_bytes(journal)
    request = dataclasses.replace(finished.request, output=folder, resume=True, seed=1)
    with pytest.raises(UsageError) as error:
        search_model(request)
    assert str(error.value) == (
        f"{folder / 'search.jsonl'}: expected the journal of this search (seed 1), found that of "
        "another (seed 0); resume with the settings it was made with, or pass --overwrite without "
        "--resume to start anew"
    )
    with pytest.raises(OutputError) as refusal:
        search_model(dataclasses.replace(request, resume=False))
    assert str(refusal.value) == (
        f"{folder}: expected a folder without a search in it, found an unfinished one; "
        "pass --resume to continue it, or --overwrite to start anew"
    )


@pytest.mark.parametrize("name", ["search.html", "pareto.svg", "latency.json"])
def test_files_that_no_search_here_wrote_are_not_replaced(
    finished: Finished, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / name).write_text("somebody's")
    request = dataclasses.replace(finished.request, output=folder, latency=None, target=0.5)
    with pytest.raises(OutputError) as refusal:
        search_model(request)
    assert str(refusal.value) == (
        f"{folder / name}: expected an unused name, in a folder without a search in it, found a "
        "file; choose another folder with -o, or pass --overwrite to replace it"
    )
    assert (folder / name).read_text() == "somebody's"


def _resumed(finished: Finished, folder: Path, **changes: Any) -> SearchRequest:
    """The finished search, to be resumed from its journal alone, with other settings."""
    folder.mkdir()
    shutil.copy(finished.request.output / "search.jsonl", folder)
    return dataclasses.replace(finished.request, output=folder, resume=True, **changes)


def test_a_refused_resume_tells_two_devices_apart(finished: Finished, tmp_path: Path) -> None:
    latency = LatencyRequest(device="l4", share=0.65, batch=4096, sequence=64)
    with pytest.raises(UsageError) as error:
        search_model(_resumed(finished, tmp_path / "resumed", latency=latency))
    told = r" ms on {0} \(analytical\), latency device {0}, latency table \w{{12}}\)$"
    assert re.search(told.format("L4"), error.value.expected)
    assert re.search(told.format("A100 80GB SXM"), error.value.found)


def test_a_refused_resume_tells_two_ways_to_count_apart(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        search_model(_resumed(finished, tmp_path / "resumed", metadata=False))
    told = "(budget at most 0.16 of the float32 size {} and "
    assert told.format("nominal") in error.value.expected
    assert told.format("with metadata") in error.value.found


def test_it_does_not_matter_which_file_the_same_latencies_are_read_from(
    finished: Finished, tmp_path: Path
) -> None:
    table = finished.request.output / "latency.json"
    latency = LatencyRequest(table=table, share=0.65, batch=4096, sequence=64)
    heard: list[Progress] = []
    search_model(_resumed(finished, tmp_path / "resumed", latency=latency), heard.append)
    assert _facts(tmp_path / "resumed")["measured"] == finished.facts["measured"]
    scored = [each for each in heard if isinstance(each, CandidateScored)]
    assert scored[-1].reused == scored[-1].number


def test_a_search_that_is_at_work_is_not_resumed(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "at work"
    folder.mkdir()
    journal = folder / "search.jsonl"
    journal.write_bytes((finished.request.output / "search.jsonl").read_bytes())
    request = dataclasses.replace(finished.request, output=folder, resume=True)
    before = journal.read_bytes()
    fresh = dataclasses.replace(request, resume=False)
    for each in (request, fresh, dataclasses.replace(fresh, overwrite=True)):
        with sole_writer(journal), pytest.raises(OutputError, match="found one at work on it; "):
            search_model(each)
    assert [path.name for path in folder.iterdir()] == ["search.jsonl"]
    assert journal.read_bytes() == before


def test_a_journal_that_nobody_wrote_is_refused(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "resumed"
    folder.mkdir()
    header = (finished.request.output / "search.jsonl").read_text().splitlines()[0]
    (folder / "search.jsonl").write_text(f'{header}\n{{"event": "score"}}\n')
    with pytest.raises(UsageError) as error:
        search_model(dataclasses.replace(finished.request, output=folder, resume=True))
    assert str(error.value) == (
        f"{folder / 'search.jsonl'}, line 2: expected a line of the interrupted search, "
        'found \'{"event": "score"}\'; pass --overwrite without --resume to start anew'
    )


def test_a_finished_search_survives_that_another_cannot_be_resumed(
    finished: Finished, tmp_path: Path
) -> None:
    folder = tmp_path / "found"
    shutil.copytree(finished.request.output, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    request = dataclasses.replace(finished.request, output=folder, resume=True, overwrite=True)
    with pytest.raises(UsageError, match=r"pass --overwrite without --resume to start anew$"):
        search_model(dataclasses.replace(request, seed=1))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "overwrite", "told"),
    [
        ("notes.txt", True, "ranked: expected recipes of an earlier search or an unused name"),
        ("mine.yaml", False, "expected a folder without a search in it, found recipes in ranked"),
    ],
)
def test_somebodys_files_are_not_replaced_and_are_seen_before_the_search(
    finished: Finished, tmp_path: Path, name: str, overwrite: bool, told: str
) -> None:
    ranked = tmp_path / "found" / "ranked"
    ranked.mkdir(parents=True)
    (ranked / name).write_text("somebody's")
    request = dataclasses.replace(finished.request, output=ranked.parent, overwrite=overwrite)
    reports: list[object] = []
    with pytest.raises(OutputError, match=told):
        search_model(request, reports.append)
    assert not reports
    assert (ranked / name).read_text() == "somebody's"


def test_too_many_choices_per_component_are_seen_before_anything_is_computed(
    finished: Finished, tmp_path: Path
) -> None:
    texts = "2:4 1:4 4:8 1:2 int8 int4 2:4+int8 2:4+int4 1:4+int8 1:4+int4 4:8+int8 4:8+int4"
    schemes = tuple(map(Scheme.parse, texts.split()))
    request = dataclasses.replace(
        finished.request, output=tmp_path / "found", schemes=schemes, per="component"
    )
    reports: list[object] = []
    with pytest.raises(UsageError, match=r"found 2\.99e\+06; give fewer schemes, or search per"):
        search_model(request, reports.append)
    assert not any(isinstance(each, LinearPrepared) for each in reports)


@pytest.mark.slow
def test_a_search_killed_again_and_again_ends_with_the_same_result(
    finished: Finished, dense: Path, data: Path, tmp_path: Path
) -> None:
    whole, killed = finished.request.output, tmp_path / "killed"
    # Among probes one is killed below, and proposals are scores of layers as refined ones are.
    for kill in (
        ("--kill-at-uniform", "9"),
        ("--kill-at-score", "30"),  # in the middle of a round
        ("--kill-at-marginal", "7"),
        ("--kill-at-refined", "2"),
        ("--kill-at-point", "3"),
    ):
        died = run_search(dense, data, killed, "--resume", *kill)
        assert died.returncode == -signal.SIGKILL, died.stderr
        with (killed / "search.jsonl").open("ab") as journal:
            journal.write(b'{"event": "sco')  # the line that the kill cut short
    assert not (killed / "search.json").exists()
    assert (done := run_search(dense, data, killed, "--resume")).returncode == 0, done.stderr
    assert _facts(killed) == finished.facts
    for path in (whole / "ranked").iterdir():
        assert (killed / "ranked" / path.name).read_bytes() == path.read_bytes()
    lines = [(folder / "search.jsonl").read_text().splitlines() for folder in (whole, killed)]
    assert sorted(lines[1]) == sorted(lines[0])  # nothing was done twice, nothing is lost


@pytest.mark.slow
def test_two_processes_find_what_one_finds(
    finished: Finished, dense: Path, data: Path, tmp_path: Path
) -> None:
    """Also where one process has begun."""
    together = tmp_path / "together"
    died = run_search(dense, data, together, "--kill-at-probe", "7")
    assert died.returncode == -signal.SIGKILL, died.stderr
    done = run_search(dense, data, together, "--resume", processes=2)
    assert done.returncode == 0, done.stderr
    assert _facts(together) == finished.facts
