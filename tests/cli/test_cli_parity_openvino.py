"""`nxmi-export parity --backend openvino`: a rung that is run, judged and shown, or refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nxmi_export import load
from nxmi_export.artefact import BENCH, read_artefact
from nxmi_export.backends import Feeds, Outputs
from nxmi_export.backends.names import Backend
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.openvino_library import products
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.cli.parity_again import commands_again
from nxmi_export.glue import task_named
from nxmi_export.workflow.parity import ParityRequest
from tests.cli.command_lines import Command, Outcome
from tests.html_reader import read_html
from tests.pipeline.parity_project import Project, sst2_project


@pytest.fixture(scope="session")
def sst2(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("openvino"))


def _parity(nxmi_export: Command, project: Project, folder: Path, *arguments: object) -> Outcome:
    return nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data, "--limit", 24),
        *("-o", folder / "run.json", "--html", folder / "page.html", *arguments),
    )


def _split(folder: Path) -> dict[str, Any]:
    (split,) = json.loads((folder / "run.json").read_text())["splits"]
    return dict(split)


def test_the_rung_is_run_over_the_dev_set_and_shown(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    outcome = _parity(nxmi_export, sst2, tmp_path, "--backend", "openvino")
    warning = "warning: sst2 validation was read no further than its first 24 examples (--limit).\n"
    assert (outcome.code, outcome.err) == (0, warning)
    split = _split(tmp_path)
    name = f"OpenVINO, {products()} products"
    assert list(split["rungs"])[-1] == "openvino"
    assert split["rungs"]["openvino"]["name"] == name
    assert split["rungs"]["openvino"]["examples"] == 24
    (step,) = (each for each in split["steps"] if each["candidate"] == "openvino")
    assert 0 < step["comparison"]["largest_logit_gap"] < 0.05
    assert step["statistics"]["compared"] is True
    shapes = split["shapes"][-1]
    assert (shapes["name"], shapes["observable"], shapes["examples"]) == (name, False, 24)
    assert [each["left"] for each in shapes["settings"]].count(True) == 1
    assert all(0 <= each["largest_logit_gap"] < 0.05 for each in shapes["settings"])
    checks = {each["name"]: each["ok"] for each in split["checks"]}
    assert checks["OpenVINO"]
    assert checks["score within 0.5 points on OpenVINO"]
    assert name in " ".join(outcome.out.split())
    page = read_html((tmp_path / "page.html").read_text())
    assert "OpenVINO" in [each.text for each in page.all("text", class_="name")]
    assert split["environment"]["openvino"]


def test_it_is_not_run_unless_it_was_asked_for(
    nxmi_export: Command, sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # how Python marks what cannot be imported
    outcome = _parity(nxmi_export, sst2, tmp_path, "--backend", "onnxruntime")
    assert outcome.code == 0
    assert "openvino" not in _split(tmp_path)["rungs"]


def test_a_missing_library_is_3_before_the_work(
    nxmi_export: Command, sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    outcome = _parity(nxmi_export, sst2, tmp_path, "--backend", "openvino")
    assert outcome.code == 3
    assert outcome.sentence == (
        "OpenVINO: expected an installation that loads, found import of openvino halted; "
        'None in sys.modules; run `pip install "nxmi-export[openvino]"`'
    )
    assert list(tmp_path.iterdir()) == []


def test_answers_that_onnxruntime_does_not_give_fail_the_gate(
    nxmi_export: Command, sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: OpenVinoRunner, feeds: Feeds) -> Outputs:
        return {name: np.negative(array) for name, array in real(self, feeds).items()}

    real = OpenVinoRunner.run
    monkeypatch.setattr(OpenVinoRunner, "run", run)
    outcome = _parity(nxmi_export, sst2, tmp_path, "--backend", "openvino")
    assert outcome.code == 1
    split = _split(tmp_path)
    failed = [each["name"] for each in split["checks"] if not each["ok"]]
    assert "OpenVINO" in failed
    assert all("OpenVINO" in name for name in failed)
    assert (
        "changed 24 of 24 predictions of PyTorch, compressed without an explanation, where 1 may"
        in " ".join(split["failures"])
    )


def _as_a_length(feeds: Feeds) -> Feeds:
    """The mask as a backend sees it that takes all padding to be on the right."""
    mask = feeds["attention_mask"]
    lengths = mask.sum(axis=1, keepdims=True)
    return {**feeds, "attention_mask": (np.arange(mask.shape[1]) < lengths).astype(mask.dtype)}


def test_a_mask_that_openvino_reads_as_a_length_fails_the_gate(
    nxmi_export: Command, sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: OpenVinoRunner, feeds: Feeds) -> Outputs:
        return real(self, _as_a_length(feeds))

    real = OpenVinoRunner.run
    monkeypatch.setattr(OpenVinoRunner, "run", run)
    outcome = _parity(nxmi_export, sst2, tmp_path, "--backend", "openvino")
    assert outcome.code == 1
    split = _split(tmp_path)
    (failure,) = split["failures"]
    assert failure.startswith(
        f"OpenVINO, {products()} products in batches of 8 padded on the left "
    )
    assert [each["name"] for each in split["checks"] if not each["ok"]] == ["OpenVINO"]


def test_a_mask_that_the_deployed_session_alone_reads_as_a_length_fails_the_gate(
    nxmi_export: Command, sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay's session has more outputs, and other fusions."""

    def run(self: OnnxRuntimeRunner, feeds: Feeds) -> Outputs:
        names = [each.name for each in self._session.get_outputs()]
        return real(self, feeds if len(names) > 1 else _as_a_length(feeds))

    real = OnnxRuntimeRunner.run
    monkeypatch.setattr(OnnxRuntimeRunner, "run", run)
    outcome = _parity(nxmi_export, sst2, tmp_path)
    assert outcome.code == 1
    split = _split(tmp_path)
    assert [each["name"] for each in split["checks"] if not each["ok"]] == [
        "batch sizes and padding"
    ]
    assert all(" padded on the left " in each for each in split["failures"])


def test_what_bench_and_parity_store_decides_what_a_server_runs(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    artefact = sst2.copy(tmp_path / "copy").artefact
    quick = ("--shapes", "1x4", "--rounds", 3, "--seconds", 0, "--threads", 1, "--no-memory")
    assert nxmi_export("bench", artefact, *quick).code == 0
    bench = json.loads((artefact / BENCH).read_text())
    for found in bench["workloads"]:  # whatever this machine's were
        for name, seconds in (("onnxruntime", 0.003), ("openvino", 0.002)):
            found["results"][name]["call"]["p50"] = seconds
    (artefact / BENCH).write_text(json.dumps(bench))
    with load(artefact, backend="auto", threads=1) as model:
        assert model.backend is Backend.ONNXRUNTIME
    arguments = ("--task", "sst2", "--data", sst2.data, "--backend", "openvino")
    assert nxmi_export("parity", artefact, *arguments).code == 0
    with load(artefact, backend="auto", threads=1) as model:
        assert model.backend is Backend.OPENVINO
        assert model.backend_reason == (
            "OpenVINO is 1.50 times as fast as onnxruntime in bench.json, and passed "
            "parity-sst2.json"
        )


def test_the_commands_that_make_it_again_name_every_backend(sst2: Project) -> None:
    both = (Backend.ONNXRUNTIME, Backend.OPENVINO)
    request = ParityRequest(task_named("sst2"), sst2.data, backends=both)
    _, parity = commands_again(read_artefact(sst2.artefact), request)
    assert " --backend onnxruntime --backend openvino" in parity


def test_an_unknown_backend_is_refused(nxmi_export: Command, sst2: Project, tmp_path: Path) -> None:
    assert _parity(nxmi_export, sst2, tmp_path, "--backend", "tvm").code == 2
