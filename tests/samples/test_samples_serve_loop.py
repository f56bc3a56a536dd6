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
from samples.serve_loop.__main__ import main
from samples.serve_loop.clients import Latencies, serve
from samples.serve_loop.load import POOL, Load, Text
from samples.serve_loop.memory import Slope, slope_of
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


def test_a_sound_model_is_served_without_error(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    written = tmp_path / "served.json"
    options = ["--task", "sst2", "--minutes", str(SECONDS / 60), "--json", str(written)]
    arguments = [str(project.artefact), "--data", str(project.data), *options]
    monkeypatch.setattr(sys, "argv", ["serve_loop", *arguments])
    code = main()
    result = json.loads(written.read_text())
    # A second is all warm-up: what memory did in it says nothing.
    assert code == int(result["memory"]["grew"])
    assert (result["errors"], result["wrong answers"], result["clients"]) == (0, 0, 4)
    assert result["requests"] > 0
    latency = result["latency ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["longest"]
    assert result["memory"]["largest MB"] >= result["memory"]["warm MB"] > 0
    out, err = capsys.readouterr()
    assert f"requests       {result['requests']} (" in out
    assert "0 errors" in err


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
    assert max(map(len, TEXTS)) == len(next(requests).texts[0])
    drawn = [next(requests) for _ in range(40)]
    assert len(load.pool) == POOL
    assert [each.answer is None for each in drawn] == [False, True] * 20
    assert {len(each.texts) for each in drawn} == {1, 2, 3, 4}


def test_the_slope_of_memory_and_its_standard_error_are_those_of_the_line() -> None:
    seconds = np.linspace(0, 3600, 600)
    noise = np.random.default_rng(0).normal(0, 1, 600)
    exact = slope_of(seconds, 100 + 7 * seconds / 3600)
    assert exact.mb_per_hour == pytest.approx(7)
    assert exact.standard_error == pytest.approx(0, abs=1e-6)
    noisy = slope_of(seconds, 100 + 7 * seconds / 3600 + noise)
    # σ / (√n · sd of the hours), as a line through independent samples has it.
    assert noisy.standard_error == pytest.approx(1 / (600**0.5 * 12**-0.5), rel=0.5)
    assert abs(noisy.mb_per_hour - 7) < 3 * noisy.standard_error


@pytest.mark.parametrize(
    ("slope", "grew"),
    [
        (Slope(100, 10), True),
        (Slope(100, 60), False),  # as likely chance
        (Slope(1, 0.1), False),  # too little to matter
        (Slope(-100, 1), False),
    ],
)
def test_growth_is_beyond_chance_and_large_enough_to_matter(slope: Slope, grew: bool) -> None:
    assert slope.is_growth(0.5, 400) is grew


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
