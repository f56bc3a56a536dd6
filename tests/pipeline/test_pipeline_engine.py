"""Engines of exported models: what the build log proves, and what the artefact then consists of."""

import dataclasses
import json
import os
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
from nxmi_export.errors import EngineBuildFailed, UsageError
from nxmi_export.workflow.build import EngineReport, QuantizedModules, build
from tests.pipeline.exports import ENCODER_LINEARS, LAYERS, Exported

ENGINE_FILES = {"model.plan", "engine.json", "build.log", "layers_model.json", "trtexec.txt"}
PROFILE = ShapeProfile.parse("min=1x1,opt=8x32,max=16x64", position_limit=64)
ATTENTIONS = {f"bert.encoder.layer.{index}.attention.self" for index in range(LAYERS)}


def build_into(artefact: Artefact, library: Library, *compute_capabilities: str) -> EngineReport:
    options = EngineOptions(compute_capabilities=compute_capabilities)
    return build(artefact, profiles=[PROFILE], library=library, options=options)


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
    assert facts["schema"] == "nxmi-export/engine/2"
    assert facts["plan"] == {
        "name": "model.plan",
        "bytes": plan.stat().st_size,
        "sha256": sha256_of(plan),
    }
    assert facts["library"] == {"name": "tensorrt_rtx", "version": rtx.version}
    graph = copy.directory / "model.onnx"
    assert facts["graph"] == {"name": "model.onnx", "sha256": sha256_of(graph)}
    assert facts["compute_capabilities"] == ["sm86"]
    assert facts["profiles"] == [{"min": [1, 1], "opt": [8, 32], "max": [16, 64]}]
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
    second = build_into(again, rtx, "sm89")
    assert first.result.sha256 != second.result.sha256
    files = read_artefact(sparse_copy.directory).manifest.files
    assert files["model.plan"].sha256 == second.result.sha256
    facts = json.loads((sparse_copy.directory / "engine.json").read_text())
    assert facts["compute_capabilities"] == ["sm89"]


def test_progress_is_reported(sparse_copy: Artefact, rtx: Library) -> None:
    steps: list[BuildProgress] = []
    options = EngineOptions()
    build(sparse_copy, profiles=[PROFILE], library=rtx, options=options, on_progress=steps.append)
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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_failed_rebuild_leaves_the_old_engine_and_its_own_log(
    sparse_copy: Artefact, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = with_an_old_engine(sparse_copy)
    monkeypatch.setattr(
        rtx.module.Builder, "build_serialized_network", lambda builder, network, config: None
    )
    before = contents(artefact.directory)
    with pytest.raises(EngineBuildFailed) as caught:
        build_into(artefact, rtx)
    log = artefact.directory / "build.failed.log"
    assert str(caught.value) == (
        f"{artefact.directory / 'model.onnx'}: expected a plan from the builder, "
        "found none, and no error in its log; "
        f"please report this with the ONNX file, and see the log in {log}"
    )
    assert "[I]" in log.read_text() or "[V]" in log.read_text()
    log.unlink()
    assert contents(artefact.directory) == before
    assert read_artefact(artefact.directory).manifest == artefact.manifest


def test_a_successful_build_takes_the_log_of_a_failed_one_away(
    sparse_copy: Artefact, rtx: Library
) -> None:
    (sparse_copy.directory / "build.failed.log").write_text("of the build before")
    report = build_into(sparse_copy, rtx)
    files = read_artefact(sparse_copy.directory).manifest.files
    assert {path.name for path in sparse_copy.directory.iterdir()} == {"manifest.json", *files}
    assert report.result.plan == sparse_copy.directory / "model.plan"


def test_an_option_that_the_library_refuses_leaves_the_old_engine(
    sparse_copy: Artefact, rtx: Library
) -> None:
    artefact = with_an_old_engine(sparse_copy)
    before = contents(artefact.directory)
    with pytest.raises(UsageError):
        build_into(artefact, rtx, "sm99")
    assert contents(artefact.directory) == before


def test_an_engine_that_cannot_be_moved_in_leaves_a_valid_artefact_without_one(
    sparse_copy: Artefact, rtx: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = with_an_old_engine(sparse_copy)
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if target == artefact.directory / "engine.json":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        build_into(artefact, rtx)
    after = read_artefact(artefact.directory)
    assert after.manifest.files.keys() == sparse_copy.manifest.files.keys()
    left = {path.name for path in artefact.directory.iterdir()} - {"manifest.json"}
    assert left == after.manifest.files.keys()


def test_an_interrupted_rebuild_leaves_the_old_engine(sparse_copy: Artefact, rtx: Library) -> None:
    artefact = with_an_old_engine(sparse_copy)

    def interrupt(step: BuildProgress) -> None:
        raise KeyboardInterrupt

    before = contents(artefact.directory)
    with pytest.raises(KeyboardInterrupt):
        build(
            artefact,
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(),
            on_progress=interrupt,
        )
    assert contents(artefact.directory) == before
