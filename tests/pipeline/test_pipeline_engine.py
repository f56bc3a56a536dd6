"""Engines of exported models: what the build log proves, and what the artefact then consists of."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from nxmi_export.artefact import Artefact, file_record, read_artefact, sha256_of
from nxmi_export.backends.tensorrt_engine import (
    BuildProgress,
    EngineOptions,
    Library,
    ShapeProfile,
    Verdict,
)
from nxmi_export.errors import EngineBuildFailed
from nxmi_export.workflow.build import EngineReport, QuantizedModules, build
from tests.pipeline.exports import ENCODER_LINEARS, LAYERS, Exported

ENGINE_FILES = {"model.plan", "engine.json", "build.log"}
PROFILE = ShapeProfile.parse("min=1x1,opt=8x32,max=16x64", position_limit=64)
ATTENTIONS = {f"bert.encoder.layer.{index}.attention.self" for index in range(LAYERS)}


def build_into(
    artefact: Artefact, library: Library, *, compute_capability: str | None = None
) -> EngineReport:
    log = artefact.directory / "build.log"
    options = EngineOptions(log_path=log, compute_capability=compute_capability)
    return build(artefact, profile=PROFILE, library=library, options=options)


@pytest.fixture
def copy(exported: Exported, tmp_path: Path) -> Exported:
    """Every placement in turn, for the test to change."""
    shutil.copytree(exported.directory, tmp_path / "copy")
    return dataclasses.replace(exported, artefact=read_artefact(tmp_path / "copy"))


def test_the_engine_runs_every_quantized_module_in_int8(copy: Exported, rtx: Library) -> None:
    report = build_into(copy.artefact, rtx)
    coverage = report.coverage
    assert coverage.int8_linears == len(coverage.linears) == ENCODER_LINEARS
    assert coverage.int8_attentions == len(coverage.attentions) == copy.quantized_attentions
    assert coverage.verdict is Verdict.PROVED
    # Query, key and value of a layer are one product: six linears in four.
    assert len({line for each in coverage.linears for line in each.lines}) == 4 * LAYERS

    facts = json.loads((copy.directory / "engine.json").read_text())
    assert facts == report.as_json()
    plan = copy.directory / "model.plan"
    assert facts["schema"] == "nxmi-export/engine/1"
    assert facts["plan"] == {
        "name": "model.plan",
        "bytes": plan.stat().st_size,
        "sha256": sha256_of(plan),
    }
    assert facts["library"] == {"name": "tensorrt_rtx", "version": rtx.version}
    assert (facts["compute_capability"], facts["shapes"]) == ("sm86", str(PROFILE))
    assert facts["int8"]["linears"] == {
        "total": ENCODER_LINEARS,
        "int8": ENCODER_LINEARS,
        "int8_output": coverage.int8_output_linears,
    }
    assert {
        each["module"] for each in facts["int8"]["modules"]
    } >= copy.artefact.manifest.linears.keys() - {
        "bert.pooler.dense",
        "classifier",
    }
    assert facts["sparse_kernels"]["verdict"] == "unproven"
    assert facts["runs"] == {"verdict": "unproven", "reason": "the plan was not run on a GPU"}

    files = read_artefact(copy.directory).manifest.files
    assert files.keys() == copy.artefact.manifest.files.keys() | ENGINE_FILES
    assert {path.name for path in copy.directory.iterdir()} == {"manifest.json", *files}


def test_what_must_run_in_int8_is_read_from_the_graph(exported: Exported) -> None:
    modules = QuantizedModules.read(exported.directory / "model.onnx")
    assert len(modules.linears) == ENCODER_LINEARS
    expected = ATTENTIONS if exported.quantized_attentions else set()
    assert set(modules.attentions) == expected
    products = [module for module in modules.node_modules.values() if module in expected]
    assert len(products) == 2 * len(expected)  # scores and context
    assert "classifier" not in modules.node_modules.values()


def test_a_rebuild_replaces_the_engine(sparse_copy: Artefact, rtx: Library) -> None:
    first = build_into(sparse_copy, rtx)
    again = read_artefact(sparse_copy.directory)
    second = build_into(again, rtx, compute_capability="sm89")
    assert first.result.sha256 != second.result.sha256
    files = read_artefact(sparse_copy.directory).manifest.files
    assert files["model.plan"].sha256 == second.result.sha256
    facts = json.loads((sparse_copy.directory / "engine.json").read_text())
    assert facts["compute_capability"] == "sm89"


def test_progress_is_reported(sparse_copy: Artefact, rtx: Library) -> None:
    steps: list[BuildProgress] = []
    options = EngineOptions()
    build(sparse_copy, profile=PROFILE, library=rtx, options=options, on_progress=steps.append)
    assert any(step.parent is None for step in steps)
    assert all(0 < step.done <= step.total for step in steps)


def with_an_old_engine(artefact: Artefact) -> Artefact:
    """The artefact after an earlier build, whose files need no real engine for these tests."""
    for name in ENGINE_FILES:
        (artefact.directory / name).write_text("old")
    records = {name: file_record(artefact.directory / name) for name in ENGINE_FILES}
    files = artefact.manifest.files | records
    artefact.manifest.model_copy(update={"files": files}).write(artefact.directory)
    return read_artefact(artefact.directory)


def test_a_failed_rebuild_leaves_a_valid_artefact_without_the_old_engine(
    sparse_copy: Artefact, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = with_an_old_engine(sparse_copy)
    monkeypatch.setattr(
        rtx.module.Builder, "build_serialized_network", lambda builder, network, config: None
    )
    with pytest.raises(EngineBuildFailed):
        build_into(artefact, rtx)
    after = read_artefact(artefact.directory)
    assert after.manifest.files.keys() == sparse_copy.manifest.files.keys()
    # The log of the failed build is what a report of it needs.
    left = {path.name for path in artefact.directory.iterdir()} - {"manifest.json"}
    assert left == after.manifest.files.keys() | {"build.log"}
    assert (artefact.directory / "build.log").read_text() != "old"


def test_an_interrupted_rebuild_leaves_a_valid_artefact_without_the_old_engine(
    sparse_copy: Artefact, rtx: Library
) -> None:
    artefact = with_an_old_engine(sparse_copy)

    def interrupt(step: BuildProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(
            artefact, profile=PROFILE, library=rtx, options=EngineOptions(), on_progress=interrupt
        )
    after = read_artefact(artefact.directory)
    assert after.manifest.files.keys() == sparse_copy.manifest.files.keys()
    left = {path.name for path in artefact.directory.iterdir()} - {"manifest.json"}
    assert left == after.manifest.files.keys()
