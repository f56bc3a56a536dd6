"""How far any two rungs of a ladder are apart at every layer, on request."""

import json
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.artefact import read_artefact
from nxmi_export.backends.names import Backend
from nxmi_export.cli.rung_pairs import rung_pairs
from nxmi_export.errors import UsageError
from nxmi_export.glue import task_named
from nxmi_export.parity import Stage
from nxmi_export.workflow.parity import ParityRequest, check_parity
from tests.cli.command_lines import Command, Outcome
from tests.pipeline.parity_project import Project, sst2_project
from tests.tiny_models import tiny_model, write_hugging_face


@pytest.fixture(scope="module")
def sst2(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("layers"))


def _parity(nxmi_export: Command, project: Project, *more: object) -> Outcome:
    return nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data),
        *("--limit", 12, *more),
    )


def _errors(layers: dict[str, Any], kind: str) -> list[float]:
    return [each["max_abs"] for each in layers["points"] if each["point"]["kind"] == kind]


def test_layers_of_the_rungs_that_were_named_are_compared(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    write_hugging_face(tmp_path / "dense")
    output = tmp_path / "run.json"
    pairs = ("dense:compressed", "captured:optimized", "written:shifted")
    outcome = _parity(
        *(nxmi_export, project, "--dense", tmp_path / "dense", "--captured", "-o", output),
        *(each for pair in pairs for each in ("--layer-errors", pair)),
    )
    assert outcome.code == 0, outcome.err
    (split,) = json.loads(output.read_text())["splits"]
    compressed, optimized, shifted = split["layer_errors"]
    assert split["drift"] == {}  # which is another question
    told = [(each["reference"], each["candidate"]) for each in split["layer_errors"]]
    assert told == [tuple(pair.split(":")) for pair in pairs]
    assert [each["examples"] for each in split["layer_errors"]] == [12, 12, 12]
    assert min(_errors(compressed, "linear")) > 0  # what compression costs, layer by layer
    assert max(_errors(optimized, "embedding")) < 1e-6
    assert len(_errors(optimized, "block")) == 2
    # Both hold the same codes, and run the same sums in the same order.
    assert len(_errors(shifted, "linear")) > 10
    assert {each["max_abs"] for each in shifted["points"]} == {0.0}
    assert (
        "layer errors: PyTorch, dense → PyTorch, compressed, 12 of sst2 validation" in outcome.out
    )
    assert "bert.encoder.layer.1 (block)" in outcome.out
    page = (project.artefact / "report-limit-12.html").read_text()
    assert "captured graph, unoptimized → model.cpu.onnx, optimized, each running freely" in page
    assert "--layer-errors dense:compressed --layer-errors captured:optimized" in page


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("dense:written", "found dense; add --dense"),
        ("captured:written", "found captured; add --captured"),
        ("written:float16", "found float16; export the artefact with it"),
    ],
)
def test_a_rung_that_the_run_lacks_is_refused_before_the_work(
    nxmi_export: Command, sst2: Project, tmp_path: Path, pair: str, message: str
) -> None:
    output = tmp_path / "run.json"
    outcome = _parity(nxmi_export, sst2, "--layer-errors", pair, "-o", output)
    assert outcome.code == 2
    assert message in outcome.err
    assert not output.exists()


def test_a_dense_model_of_another_size_is_refused_before_the_work(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    write_hugging_face(tmp_path / "dense", tiny_model(intermediate_size=48))
    outcome = _parity(
        *(nxmi_export, sst2, "--dense", tmp_path / "dense"), "--layer-errors", "dense:compressed"
    )
    assert outcome.code == 2
    assert (
        "layer errors from the dense model, bert.encoder.layer.0.intermediate.dense.weight: "
        "expected the shape (64, 32) of the compressed model, found (48, 32); "
    ) in outcome.err


@pytest.mark.parametrize(
    ("stage", "who"), [(Stage.ENGINE, "an engine"), (Stage.OPENVINO, "OpenVINO")]
)
def test_what_fuses_everything_shows_no_layers(stage: Stage, who: str, sst2: Project) -> None:
    pair, backends = (Stage.WRITTEN, stage), tuple(Backend)
    request = ParityRequest(task_named("sst2"), sst2.data, layer_errors=(pair,), backends=backends)
    with pytest.raises(UsageError) as caught:
        check_parity(read_artefact(sst2.artefact), request, on_progress=lambda *_: None)
    assert str(caught.value) == (
        f"layer errors from written to {stage}: expected rungs of this run that show their layers: "
        f"compressed, written, shifted, optimized, found {stage}; "
        f"compare its logits; {who} shows no layers"
    )


def test_pairs_are_two_rungs_with_a_colon() -> None:
    assert rung_pairs(["dense:compressed", "int4:written"]) == (
        (Stage.DENSE, Stage.COMPRESSED),
        (Stage.INT4, Stage.WRITTEN),
    )


@pytest.mark.parametrize(
    "text",
    [
        "dense",
        "dense:",
        "dense:dense",
        "a:written",
        "engine:written",
        "openvino:written",
        "dense:written:int4",
    ],
)
def test_what_is_no_pair_of_rungs_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        rung_pairs([text])
    assert str(caught.value) == (
        "--layer-errors: expected two different rungs of dense, compressed, captured, written, "
        f"shifted, optimized, float16, int4, with a colon between them, found {text!r}; "
        "write for example dense:compressed"
    )
