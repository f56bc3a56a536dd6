"""The serving loop on a tiny model, and that it notices what it is there to notice."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nxmi_export
from nxmi_export.runtime import Prediction, TaskModel
from samples.serve_loop import __main__ as serve_loop
from samples.serve_loop.__main__ import main
from samples.serve_loop.clients import Latencies, serve
from samples.serve_loop.load import POOL, Load, Text
from samples.serve_loop.memory import Growth, Slope, slope_of
from tests.pipeline.parity_project import Project, sst2_project
from tests.tiny_models import toy_dataset

SECONDS = 1.0
TEXTS = toy_dataset(40).texts[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("sst2"))


@pytest.fixture(scope="module")
def model(project: Project) -> TaskModel:
    return nxmi_export.load(project.artefact, threads=1)


class Lying(TaskModel):
    """Answers one request in three with another score, or not at all."""

    def __init__(self, model: TaskModel, *, failing: bool) -> None:
        self.__dict__.update(model.__dict__)
        self.asked, self.failing = 0, failing

    def predict(self, texts: list[Text]) -> list[Prediction]:
        self.asked += 1
        found = super().predict(texts)
        if self.asked % 3:
            return found
        if self.failing:
            raise MemoryError("no room")
        return [replace(each, score=0.5) for each in found]


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["serve_loop", *map(str, arguments)])
    return main()


def test_a_sound_model_is_served_recorded_and_shown(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(serve_loop, "RESULTS", tmp_path / "results")
    options = ["--task", "sst2", "--minutes", SECONDS / 60, "--json", tmp_path / "served.json"]
    code = run_main(monkeypatch, project.artefact, "--data", project.data, *options, "--record")
    result = json.loads((tmp_path / "served.json").read_text())
    # A second is all warm-up: what memory did in it says nothing.
    assert code == int(result["memory"]["verdict"] != Growth.NONE)
    assert (result["errors"], result["wrong answers"], result["clients"]) == (0, 0, 4)
    assert result["requests"] > 0
    latency = result["latency ms"]
    assert list(latency) == ["p50", "p95", "p99", "longest"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["longest"]
    memory = result["memory"]
    for kind in ("anonymous MB", "mapped MB", "resident MB"):
        assert list(memory[kind]) == ["loaded", "warm", "last", "largest"]
        assert memory[kind]["largest"] >= memory[kind]["warm"] > 0
    parts = memory["anonymous MB"]["last"] + memory["mapped MB"]["last"]
    assert parts == pytest.approx(memory["resident MB"]["last"], abs=0.2)
    out, err = capsys.readouterr()
    assert f"requests       {result['requests']} (" in out
    assert f"growth         {memory['verdict']}: anonymous memory by " in out
    assert "0 errors" in err

    recorded = tmp_path / "results" / f"{project.artefact.stem}_onnxruntime.json"
    assert json.loads(recorded.read_text()) == result
    assert run_main(monkeypatch, "--print") == 0
    headings, _, row, *_ = capsys.readouterr().out.splitlines()
    assert headings.count("|") == row.count("|")
    assert row.startswith(f"| {project.artefact.name}, onnxruntime | 4, ")
    assert row.endswith(f" | {memory['verdict']} |")


def test_serving_needs_an_artefact_and_data(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "some.artefact")
    assert "an artefact and --data are needed to serve" in capsys.readouterr().err


def test_answers_of_other_bits_are_counted(model: TaskModel) -> None:
    load = Load.of(model, TEXTS, 4)
    found = serve(Lying(model, failing=False), load, clients=2, seconds=SECONDS)
    assert found["wrong answers"] > 0
    assert found["errors"] == 0


def test_errors_are_counted_and_the_first_is_told(model: TaskModel) -> None:
    load = Load.of(model, TEXTS, 4)
    found = serve(Lying(model, failing=True), load, clients=2, seconds=SECONDS)
    assert found["errors"] > 0
    assert found["first error"] == "MemoryError: no room"
    assert found["requests"] > 0


def test_known_and_new_requests_come_by_turns(model: TaskModel) -> None:
    load = Load.of(model, TEXTS, 4)
    requests = load.requests(np.random.default_rng(1))
    drawn = [next(requests) for _ in range(40)]
    assert len(load.pool) == POOL
    assert [each.answer is None for each in drawn] == [False, True] * 20
    assert {len(each.texts) for each in drawn} == {1, 2, 3, 4}


def test_every_other_request_of_the_warm_up_is_the_heaviest(model: TaskModel) -> None:
    load = Load.of(model, TEXTS, 4)
    requests = load.warm_up(np.random.default_rng(1))
    drawn = [next(requests) for _ in range(8)]
    longest = sorted(map(str, TEXTS), key=len, reverse=True)[:4]
    assert [each.texts for each in drawn[::2]] == [longest] * 4
    assert [each.answer is None for each in drawn[1::2]] == [False, True] * 2


def test_the_slope_of_memory_and_its_interval_are_those_of_the_line() -> None:
    seconds = np.linspace(0, 600, 600)
    noise = np.random.default_rng(0).normal(0, 1, 600)
    exact = slope_of(seconds, 100 + 7 * seconds / 600)
    assert (exact.value, exact.low, exact.high) == pytest.approx((7, 7, 7))
    noisy = slope_of(seconds, 100 + 7 * seconds / 600 + noise)
    assert noisy.low < 7 < noisy.high
    # Student's quantile of 18, times σ / (√n · sd of the time), as of independent samples.
    assert noisy.high - noisy.value == pytest.approx(2.10 / (600**0.5 * 12**-0.5), rel=0.5)
    assert noisy.high - noisy.value == pytest.approx(noisy.value - noisy.low)


def test_two_samples_say_nothing_of_a_slope() -> None:
    assert slope_of(np.array([0.0, 1.0]), np.array([5.0, 6.0])).verdict(400) == Growth.UNDECIDED


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [
        (Slope(0.5, -1, 2), Growth.NONE),
        (Slope(-100, -120, -80), Growth.NONE),
        (Slope(1, 0.9, 1.1), Growth.NONE),  # sure, and too little to matter
        (Slope(100, 80, 120), Growth.SHOWN),
        (Slope(5, 3, 7), Growth.UNDECIDED),  # on both sides of 4 MB, a hundredth of 400
    ],
)
def test_growth_is_judged_by_the_whole_interval(slope: Slope, verdict: Growth) -> None:
    assert slope.verdict(400) == verdict


def test_a_model_that_keeps_what_it_was_asked_grows(model: TaskModel) -> None:
    load = Load.of(model, TEXTS, 4)
    kept: list[bytearray] = []

    class Keeping(Lying):
        def predict(self, texts: list[Text]) -> list[Prediction]:
            kept.append(bytearray(b"\1") * (1 << 16))
            return TaskModel.predict(self, texts)

    found = serve(Keeping(model, failing=False), load, clients=2, seconds=2 * SECONDS)
    assert found["memory"]["verdict"] == Growth.SHOWN
    assert found["memory"]["anonymous MB"]["last"] > found["memory"]["anonymous MB"]["warm"]


def test_percentiles_of_latencies_are_true_to_a_hundredth() -> None:
    seconds = np.random.default_rng(0).lognormal(-4, 1, 5000)
    latencies = Latencies()
    for each in seconds:
        latencies.add(each)
    for share in (0.5, 0.9, 0.99, 1.0):
        expected = np.quantile(seconds, share, method="inverted_cdf")
        assert latencies.percentile(share) == pytest.approx(expected, rel=0.011)


def test_no_latency_has_no_percentile() -> None:
    assert np.isnan(Latencies().percentile(0.5))
