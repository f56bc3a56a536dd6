"""What the parity bench times: batching alone, and whole runs, each under its own name."""

from pathlib import Path

import pytest
from torch import Tensor

from nxmi_export.artefact import read_artefact
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.glue import task_named
from nxmi_export.workflow.parity import ParityRequest
from samples import bench_parity
from samples.bench_parity import PLAIN, measured, whole_ways
from tests.pipeline.parity_project import sst2_project


def test_ratios_are_to_the_plain_loop_and_every_way_runs_in_every_round() -> None:
    ran: list[str] = []
    ways = {name: lambda name=name: ran.append(name) for name in (PLAIN, "other")}
    found = measured(ways, PLAIN, 3)
    assert ran == [PLAIN, "other"] * 3
    assert found[PLAIN]["times as fast by wall"] == 1.0
    assert set(found["other"]) == {
        "wall seconds",
        "processor seconds",
        "times as fast by wall",
        "times as fast by processor",
    }


def test_the_plain_loop_makes_each_weight_once_as_a_parity_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = sst2_project(tmp_path)
    made: list[CompressedLinear] = []
    make = CompressedLinear._make_weight

    def counted(linear: CompressedLinear) -> Tensor:
        made.append(linear)
        return make(linear)

    monkeypatch.setattr(CompressedLinear, "_make_weight", counted)
    monkeypatch.setattr(bench_parity, "PADDED", 64)
    monkeypatch.setattr(bench_parity, "PLAIN_BATCH", 4)
    request = ParityRequest(task_named("sst2"), project.data, limit=8)
    whole_ways(read_artefact(project.artefact), request)[PLAIN]()
    assert len(made) == len({id(linear) for linear in made}) > 0


def test_a_whole_run_is_a_parity_run_next_to_a_loop_over_its_rungs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = sst2_project(tmp_path)
    ran: list[tuple[str, int | None]] = []
    run = bench_parity.logits_of

    def counted(runner: object, *arguments: object, pad_to: int | None = None) -> object:
        ran.append((type(runner).__name__, pad_to))
        return run(runner, *arguments, pad_to=pad_to)  # type: ignore[arg-type]

    monkeypatch.setattr(bench_parity, "logits_of", counted)
    monkeypatch.setattr(bench_parity, "PADDED", 64)  # the small model's table is no longer
    request = ParityRequest(task_named("sst2"), project.data, limit=8)
    ways = whole_ways(read_artefact(project.artefact), request)
    ways[PLAIN]()
    assert ran == [("TorchRunner", 64), ("OnnxRuntimeRunner", 64), ("OnnxRuntimeRunner", 64)]
    ways["parity run"]()
    assert len(ran) == 3  # which has its own
