"""Engines of exported models: what the build log proves, and what the artefact then consists of."""

import dataclasses
import json
import os
import shlex
import shutil
from pathlib import Path

import onnx_ir as ir
import pytest

from nxmi_export.artefact import Artefact, file_record, read_artefact, sha256_of
from nxmi_export.backends.tensorrt_engine import (
    BuildProgress,
    EngineOptions,
    Library,
    Precision,
    ShapeProfile,
    Verdict,
)
from nxmi_export.backends.tensorrt_engine.engine_facts import EngineFacts
from nxmi_export.errors import ArtefactError, EngineBuildFailed, OutputError, UsageError
from nxmi_export.workflow.build import EngineReport, QuantizedModules, build, build_file
from tests.backends.fake_builder_library import fake_library
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
    assert facts["schema"] == "nxmi-export/engine/3"
    assert facts["plan"] == {
        "name": "model.plan",
        "bytes": plan.stat().st_size,
        "sha256": sha256_of(plan),
    }
    assert facts["library"] == {"name": "tensorrt_rtx", "version": rtx.version}
    graph = copy.directory / "model.onnx"
    weights = copy.directory / "model.onnx.data"
    assert facts["graph"] == {
        "name": "model.onnx",
        "sha256": sha256_of(graph),
        "tensors": [{"name": "model.onnx.data", "sha256": sha256_of(weights)}],
    }
    for key, name in (("log", "build.log"), ("layers", "layers_model.json")):
        assert facts[key] == {"name": name, "sha256": sha256_of(copy.directory / name)}
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

    built = read_artefact(copy.directory)
    read = EngineFacts.read(built)
    assert read is not None
    assert read.as_json() == facts
    assert read.lint.compute_capabilities == ("sm86",)
    assert read.lint.assumed is None
    files = built.manifest.files
    assert files.keys() == copy.artefact.manifest.files.keys() | ENGINE_FILES
    assert {path.name for path in copy.directory.iterdir()} == {"manifest.json", *files}


def test_what_must_run_in_int8_is_read_from_the_graph(exported: Exported) -> None:
    modules = QuantizedModules.of(ir.load(exported.directory / "model.onnx"))
    assert len(modules.linears) == ENCODER_LINEARS
    expected = ATTENTIONS if exported.quantized_attentions else set()
    assert set(modules.attentions) == expected
    named = modules.products.module_of
    products = [module for module in named.values() if module in expected]
    assert len(products) == 2 * len(expected)  # scores and context
    assert "classifier" not in {*modules.linears, *named.values()}
    assert named["classifier/Gemm"] == "classifier/Gemm"  # in float, but a product all the same


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


def test_two_profiles_are_proved_in_both(sparse_copy: Artefact, rtx: Library) -> None:
    narrow = ShapeProfile.parse("min=1x1,opt=1x16,max=1x64", position_limit=64)
    options = EngineOptions(compute_capabilities=("sm86", "sm89"))
    report = build(sparse_copy, profiles=[narrow, PROFILE], library=rtx, options=options)
    assert report.coverage.verdict is Verdict.PROVED
    facts = json.loads((sparse_copy.directory / "engine.json").read_text())
    assert facts["profiles"] == [
        {"min": [1, 1], "opt": [1, 16], "max": [1, 64]},
        {"min": [1, 1], "opt": [8, 32], "max": [16, 64]},
    ]
    assert facts["compute_capabilities"] == ["sm86", "sm89"]


def test_every_layer_is_written_with_its_modules(sparse_copy: Artefact, rtx: Library) -> None:
    report = build_into(sparse_copy, rtx)
    facts = json.loads((sparse_copy.directory / "layers_model.json").read_text())
    assert facts["schema"] == "nxmi-export/layers/1"
    assert [each["name"] for each in facts["layers"]] == [
        layer.name for layer in report.result.layers
    ]
    [merged] = [
        each
        for each in facts["layers"]
        if each["type"] == "gemm" and "layer.0.attention.self" in each["name"]
    ]
    assert merged["inputs"] == [
        {"name": merged["inputs"][0]["name"], "dimensions": [-1, 64], "datatype": "Int8"}
    ]
    assert {f"bert.encoder.layer.0.attention.self.{each}" for each in ("query", "key", "value")} < {
        *merged["modules"]
    }


def test_what_was_asked_and_ignored_is_kept(sparse_copy: Artefact, rtx: Library) -> None:
    options = EngineOptions(optimization_level=3, tf32=False)
    build(sparse_copy, profiles=[PROFILE], library=rtx, options=options)
    facts = json.loads((sparse_copy.directory / "engine.json").read_text())
    assert [each["option"] for each in facts["ignored"]] == [
        "--sparsity enable",
        "--optimization-level 3",
    ]
    assert (facts["options"]["optimization_level"], facts["options"]["tf32"]) == (3, False)
    assert facts["timing_cache"] == {"file": None, "was_read": False, "refused": None}
    assert facts["lint"]["counts"] == {
        "refuse": 0,
        "alter": 0,
        "degrade": 0,
        "note": ENCODER_LINEARS,
    }
    command = (sparse_copy.directory / "trtexec.txt").read_text()
    assert shlex.split(command) == facts["trtexec"]
    assert command == (
        "tensorrt_rtx --onnx=model.onnx --saveEngine=model.plan "
        "--minShapes=input_ids:1x1,attention_mask:1x1,token_type_ids:1x1 "
        "--optShapes=input_ids:8x32,attention_mask:8x32,token_type_ids:8x32 "
        "--maxShapes=input_ids:16x64,attention_mask:16x64,token_type_ids:16x64 "
        "--noTF32 --computeCapabilities=86 --profilingVerbosity=detailed "
        "--exportLayerInfo=layers_model.json --verbose --skipInference\n"
    )


def test_a_graph_that_tensorrt_would_refuse_costs_no_build(
    sparse_copy: Artefact, rtx: Library
) -> None:
    """Turing runs no quantized product of a float32 graph, which the linter knows."""
    artefact = with_an_old_engine(sparse_copy)
    before = contents(artefact.directory)
    steps: list[BuildProgress] = []
    with pytest.raises(UsageError) as caught:
        build(
            artefact,
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(compute_capabilities=("sm86", "sm75")),
            on_progress=steps.append,
        )
    path = artefact.directory / "model.onnx"
    query = "bert.encoder.layer.0.attention.self.query"
    message = str(caught.value)
    assert message.startswith(
        f"{path}: expected a graph that TensorRT's parser and builder take, found "
        f"turing-float at {query} ({query}/MatMul): "
    )
    assert message.endswith("; build for SM80 or later")
    assert ", and 11 more; " in message
    assert (steps, contents(artefact.directory)) == ([], before)


def test_an_artefact_without_a_float16_graph_says_how_to_get_one(
    sparse_copy: Artefact, rtx: Library
) -> None:
    with pytest.raises(ArtefactError) as caught:
        build(
            sparse_copy,
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(),
            precision=Precision.FP16,
        )
    assert str(caught.value) == (
        f"{sparse_copy.directory}: expected model.fp16.onnx, which runs in float16 what is not "
        "quantized, found model.cpu.onnx, model.onnx; export the model again with --fp16"
    )


def test_the_float16_graph_is_the_one_that_is_built(sparse_copy: Artefact, rtx: Library) -> None:
    graph = sparse_copy.directory / "model.fp16.onnx"
    shutil.copy(sparse_copy.directory / "model.onnx", graph)
    files = sparse_copy.manifest.files | {"model.fp16.onnx": file_record(graph)}
    sparse_copy.manifest.model_copy(update={"files": files}).write(sparse_copy.directory)
    report = build(
        read_artefact(sparse_copy.directory),
        profiles=[PROFILE],
        library=rtx,
        options=EngineOptions(),
        precision=Precision.FP16,
    )
    found = report.as_json()["graph"]
    assert (found["name"], found["sha256"]) == ("model.fp16.onnx", sha256_of(graph))
    assert report.trtexec[1] == "--onnx=model.fp16.onnx"


def test_timings_are_kept_in_the_artefact_and_read_the_next_time(sparse_copy: Artefact) -> None:
    library, asked = fake_library()
    first = build_into(sparse_copy, library)
    again = build_into(read_artefact(sparse_copy.directory), library)
    assert asked.cache == b"timed:"
    assert (first.result.timing_cache.was_read, again.result.timing_cache.was_read) == (False, True)
    path = sparse_copy.directory / "timing.cache"
    assert path.read_bytes() == b"timed:timed:"
    assert read_artefact(sparse_copy.directory).manifest.files["timing.cache"] == file_record(path)
    read = EngineFacts.read(read_artefact(sparse_copy.directory))
    assert read is not None
    facts = read.as_json()
    assert facts == json.loads((sparse_copy.directory / "engine.json").read_text())
    assert facts["timing_cache"] == {"file": "timing.cache", "was_read": True, "refused": None}
    assert "--timingCacheFile=timing.cache" in facts["trtexec"]


def test_timings_are_written_to_the_file_that_was_named(
    sparse_copy: Artefact, tmp_path: Path
) -> None:
    library, _ = fake_library()
    path = tmp_path / "shared.cache"
    options = EngineOptions(timing_cache=path)
    report = build(sparse_copy, profiles=[PROFILE], library=library, options=options)
    assert path.read_bytes() == b"timed:"
    assert not (sparse_copy.directory / "timing.cache").exists()
    assert f"--timingCacheFile={path}" in report.trtexec


def test_a_file_of_timings_named_from_here_is_named_in_full_for_the_artefacts_command(
    sparse_copy: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    library, _ = fake_library()
    options = EngineOptions(timing_cache=Path("shared.cache"))
    report = build(sparse_copy, profiles=[PROFILE], library=library, options=options)
    assert f"--timingCacheFile={tmp_path / 'shared.cache'}" in report.trtexec


def test_timings_that_are_refused_are_not_overwritten(
    sparse_copy: Artefact, tmp_path: Path
) -> None:
    library, _ = fake_library()
    path = tmp_path / "shared.cache"
    path.write_bytes(b"another GPU")
    options = EngineOptions(timing_cache=path)
    report = build(sparse_copy, profiles=[PROFILE], library=library, options=options)
    assert path.read_bytes() == b"another GPU"
    assert report.as_json()["ignored"] == [
        {"option": "--timing-cache", "reason": "it is of another GPU or release"}
    ]


def test_a_timing_cache_in_no_folder_costs_no_build(sparse_copy: Artefact, tmp_path: Path) -> None:
    library, asked = fake_library()
    path = tmp_path / "nowhere" / "timing.cache"
    with pytest.raises(OutputError) as caught:
        build(
            sparse_copy,
            profiles=[PROFILE],
            library=library,
            options=EngineOptions(timing_cache=path),
        )
    assert str(caught.value) == (
        f"{path}: expected a timing cache in a folder that exists, found no such folder; "
        "create it or correct the path"
    )
    assert asked.profiles == []


def test_any_onnx_file_becomes_a_plan_with_its_facts_beside_it(
    sparse_copy: Artefact, rtx: Library, tmp_path: Path
) -> None:
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "bert.build.failed.log").write_text("of the build before")
    graph = sparse_copy.directory / "model.onnx"
    before = contents(sparse_copy.directory)
    plan = folder / "bert.engine"
    report = build_file(graph, plan, profiles=[PROFILE], library=rtx, options=EngineOptions())
    assert {path.name for path in folder.iterdir()} == {
        "bert.engine",
        "bert.engine.json",
        "bert.build.log",
        "layers_bert.json",
        "bert.trtexec.txt",
    }
    facts = json.loads((folder / "bert.engine.json").read_text())
    assert facts["plan"]["sha256"] == sha256_of(plan)
    assert facts["int8"]["linears"]["int8"] == ENCODER_LINEARS
    assert report.trtexec[1:3] == (f"--onnx={graph}", f"--saveEngine={plan}")
    assert contents(sparse_copy.directory) == before


def test_an_onnx_file_that_does_not_build_leaves_its_log_alone(
    sparse_copy: Artefact, rtx: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plans"
    folder.mkdir()
    monkeypatch.setattr(
        rtx.module.Builder, "build_serialized_network", lambda builder, network, config: None
    )
    graph = sparse_copy.directory / "model.onnx"
    with pytest.raises(EngineBuildFailed) as caught:
        build_file(
            graph,
            folder / "bert.plan",
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(),
        )
    log = folder / "bert.build.failed.log"
    assert str(caught.value).endswith(f", and see the log in {log}")
    assert list(folder.iterdir()) == [log]


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


def test_an_artefact_exported_anew_during_a_build_is_left_alone(
    sparse_copy: Artefact, rtx: Library
) -> None:
    directory = sparse_copy.directory
    beside = directory.with_name("other")
    shutil.copytree(directory, beside)
    before = contents(beside)

    def replace(step: BuildProgress) -> None:
        if beside.exists():
            shutil.rmtree(directory)
            beside.rename(directory)

    with pytest.raises(ArtefactError) as caught:
        build(
            sparse_copy,
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(),
            on_progress=replace,
        )
    assert str(caught.value) == (
        f"{directory / 'manifest.json'}: expected the manifest that the work began with, found "
        "another, which some other process has written since; run the command again"
    )
    assert contents(directory) == before


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
