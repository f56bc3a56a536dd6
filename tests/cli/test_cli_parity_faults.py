"""What a parity run says of faults: where they are, which layers to leave out, what is unproven."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from nxmi_export.artefact import CPU_MODEL, MODEL, Artefact, Source, read_artefact
from nxmi_export.backends import Feeds, Outputs, Runner
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.tensorrt_engine import EngineOptions, ShapeProfile
from nxmi_export.checkpoint import checkpoint_sha256, read_tokenizer_files
from nxmi_export.errors import ArtefactError, CapabilityMissing
from nxmi_export.glue import task_named
from nxmi_export.parity import Gate, ParityResult, Stage, Unproven
from nxmi_export.parity.bisect import Certainty
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.report.bisection_table import bisection_table
from nxmi_export.workflow.parity import ParityRequest, check_parity
from nxmi_export.workflow.parity.engine_rung import WithinProfile, engine_runner
from passes import linear_layers, module_of
from tests.cli.command_lines import Command
from tests.engine_documents import with_engine_document
from tests.pipeline.parity_project import Project, sst2_project
from tests.tiny_models import tiny_model, write_hugging_face

FEW: dict[str, Any] = {"limit": 12, "shift_examples": 4, "shape_examples": 4, "code_examples": 0}


@pytest.fixture(scope="session")
def sst2(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("faults"))


def _result(project: Project, **settings: Any) -> tuple[ParityResult, tuple[str, ...]]:
    request = ParityRequest(task_named("sst2"), project.data, **FEW | settings)
    run = check_parity(
        read_artefact(project.artefact), request, on_progress=lambda what, done, total: None
    )
    assert run is not None
    (split,) = run.splits
    return split.result, split.verdict.failures


def _scale_logits(project: Project) -> None:
    """Scale every logit of the CPU file by 1.01, which changes no prediction."""
    path = project.artefact / CPU_MODEL
    model = ir.load(path)
    (classifier,) = (each for each in linear_layers(model.graph) if each.module == "classifier")
    weight = classifier.node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    scaled = weight.const_value.numpy() * np.float32(1.01)
    weight.const_value = ir.Tensor(scaled, name=weight.name)
    ir.save(model, path)
    project.change()


def test_a_fault_without_a_changed_prediction_fails_and_is_localized(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    _scale_logits(project)
    output = tmp_path / "run.json"
    outcome = nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data),
        *("--limit", 12, "-o", output),
    )
    assert outcome.code == 1
    (split,) = json.loads(output.read_text())["splits"]
    assert [step["comparison"]["changes"] for step in split["steps"]] == [[]] * 4
    failed = {each["name"] for each in split["checks"] if not each["ok"]}
    assert failed == {
        "CPU file equal bit for bit",
        "stored weights",
        "logits explained",
        "batch sizes and padding",
        "drift within rounding",
        "probes beyond the dev set",
    }
    assert (
        "model.cpu.onnx, unoptimized drifts from PyTorch at classifier (linear) (float weight). "
        "classifier: weight at [0, 0] is "
    ) in outcome.err
    drift = split["drift"]  # unasked, as the gate failed
    assert list(drift) == ["written", "shifted", "optimized"]
    assert drift["written"]["explained"] is True
    (errors,) = split["layer_errors"]
    assert (errors["reference"], errors["candidate"]) == ("compressed", "written")
    assert len(errors["points"]) > 10
    assert drift["shifted"]["first_layer"] == "classifier (linear)"
    assert drift["shifted"]["cause"] == "float weight"
    assert (drift["optimized"]["first_layer"], drift["optimized"]["cause"]) == (
        "the logits",
        "fusion",
    )
    assert drift["shifted"]["reason"].startswith("classifier: weight at [0, 0] is ")
    assert "drift from compressed PyTorch: sst2 validation" in outcome.out
    assert "layer errors: PyTorch, compressed → model.onnx, unoptimized" in outcome.out
    page = (project.artefact / "report-limit-12.html").read_text()
    assert "Drift by layer" in page


def test_a_quantizer_that_the_graph_lacks_fails_the_gate_and_has_its_report(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    module = _drop_a_quantizer(project)
    output = tmp_path / "run.json"
    outcome = nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data),
        *("--limit", 12, "-o", output),
    )
    assert outcome.code == 1
    assert f"the graph has no quantizer for {module}." in outcome.err
    (split,) = json.loads(output.read_text())["splits"]
    assert split["codes"] == []
    assert (project.artefact / "report-limit-12.html").is_file()


def _drop_a_quantizer(project: Project) -> str:
    """The first one of both files; its module."""
    for name in (MODEL, CPU_MODEL):
        path = project.artefact / name
        model = ir.load(path)
        quantize = next(node for node in model.graph if node.op_type == "QuantizeLinear")
        (dequantize,) = quantize.outputs[0].consumers()
        source = quantize.inputs[0]
        assert source is not None
        dequantize.outputs[0].replace_all_uses_with(source)
        model.graph.remove([dequantize, quantize], safe=True)
        ir.save(model, path)
    project.change()
    return module_of(quantize)


def test_the_captured_graph_is_a_rung_of_its_own(sst2: Project) -> None:
    result, failures = _result(sst2, captured=True, drift=True)
    assert failures == ()
    assert list(result.rungs) == [
        Stage.COMPRESSED,
        Stage.CAPTURED,
        Stage.WRITTEN,
        Stage.SHIFTED,
        Stage.OPTIMIZED,
    ]
    step = result.step(Stage.COMPRESSED, Stage.CAPTURED)
    assert step is not None
    assert len(step.replayed) == 12
    assert all(each.explained for each in step.replayed)
    assert list(result.drift) == [Stage.CAPTURED, Stage.WRITTEN, Stage.SHIFTED, Stage.OPTIMIZED]
    assert all(each.explained for each in result.drift.values())


def test_layers_that_restore_the_score_are_written_as_a_recipe(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    write_hugging_face(tmp_path / "dense")
    output = tmp_path / "run.json"
    outcome = nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data, "-o", output),
        *("--dense", tmp_path / "dense", "--bisect", "--bisect-budget", 8),
    )
    (split,) = json.loads(output.read_text())["splits"]
    found = split["bisection"]
    assert found["schema"] == "nxmi-export/bisect/1"
    assert found["goal"]["reference"] == split["rungs"]["dense"]["primary"]
    assert found["evaluations"] <= 8
    assert found["layers"]
    place = project.artefact / "exclusions-sst2.yaml"
    recipe = Recipe.from_yaml(place)
    assert all(recipe.overrides[layer] == Scheme() for layer in found["layers"])
    assert f"a recipe in {place}" in outcome.out


def test_without_a_dense_model_the_set_that_gives_the_goal_is_counted(sst2: Project) -> None:
    moved: list[tuple[int, int]] = []

    def note(what: str, done: int, total: int) -> None:
        if what.startswith("bisecting"):
            moved.append((done, total))

    request = ParityRequest(
        task_named("sst2"), sst2.data, bisect_budget=20, gate=Gate(max_drop=1.0), **FEW
    )
    run = check_parity(read_artefact(sst2.artefact), request, on_progress=note)
    assert run is not None
    found = run.splits[0].result.bisection
    assert found is not None
    assert found.certainty is Certainty.UNNEEDED
    assert moved == [(1, 20), (2, 20)]
    assert [trial.layers for trial in found.trials] == [found.candidates, ()]
    assert found.goal.reference == found.trials[0].metric
    (table,) = bisection_table(run.splits[0].result)
    assert list(table.columns[1].cells)[-1].startswith("2 of 20: ")


def test_an_interrupted_bisection_keeps_what_it_has(sst2: Project, tmp_path: Path) -> None:
    """The first two sets are none and all, which gives the dense model."""

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("bisecting") and done == 2:
            signal.raise_signal(signal.SIGINT)

    request = ParityRequest(
        task_named("sst2"),
        sst2.data,
        dense=str(write_hugging_face(tmp_path / "dense")),
        bisect_budget=20,
        gate=Gate(max_drop=0.0),
        **FEW | {"limit": None},
    )
    before = signal.getsignal(signal.SIGINT)
    run = check_parity(read_artefact(sst2.artefact), request, on_progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert run is not None
    found = run.splits[0].result.bisection
    assert found is not None
    assert found.evaluations == 2
    assert found.certainty is Certainty.SUFFICIENT
    assert found.layers == found.candidates


def test_a_model_without_compressed_layers_is_not_bisected(
    nxmi_export: Command, sst2: Project, tmp_path: Path
) -> None:
    project = sst2.copy(tmp_path / "copy")
    dense = write_hugging_face(tmp_path / "dense")
    for name in ("config.json", *read_tokenizer_files(dense)):
        shutil.copyfile(dense / name, project.artefact / name)
    origin = Source(path=str(dense), sha256=checkpoint_sha256(dense))
    project.change(recipe=None, provenance={}, source=origin)
    outcome = nxmi_export(
        *("parity", project.artefact, "--task", "sst2", "--data", project.data, "--bisect"),
    )
    assert (outcome.code, outcome.sentence) == (
        2,
        f"bisecting {project.artefact}: expected a model that was compressed, found no compressed "
        "layer; leave --bisect out",
    )


class _EngineInName(OnnxRuntimeRunner):
    """Stands for an engine: the CPU file, in batches of at most 4 of 2 to 64 tokens."""

    shapes: list[tuple[int, ...]]

    def __init__(self, path: Path) -> None:
        super().__init__(path, optimize=True, threads=1)
        self.shapes = []

    def run(self, feeds: Feeds) -> Outputs:
        self.shapes.append(feeds["input_ids"].shape)
        return super().run(feeds)


PROFILE = ShapeProfile.parse("min=3x2,opt=4x32,max=4x64", position_limit=64)


@pytest.fixture
def engine(sst2: Project) -> Iterator[_EngineInName]:
    with _EngineInName(sst2.artefact / CPU_MODEL) as runner:
        yield runner


def test_an_engine_that_runs_is_the_last_rung(
    sst2: Project, engine: _EngineInName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(artefact: Artefact, name: str, longest: int) -> Runner:
        return WithinProfile(engine, PROFILE)

    monkeypatch.setattr("nxmi_export.workflow.parity.climb.engine_runner", made)
    result, failures = _result(sst2)
    assert failures == ()
    assert list(result.rungs)[-1] is Stage.ENGINE
    assert result.unproven == {}
    step = result.step(Stage.COMPRESSED, Stage.ENGINE)
    assert step is not None
    assert step.comparison.largest_logit_gap < 1e-3
    assert {rows for rows, _ in engine.shapes} <= {3, 4}


def test_a_profile_is_kept_to_whatever_the_batch(engine: _EngineInName) -> None:
    feeds = {name: np.ones((5, 1), np.int64) for name in engine.input_names}
    outputs = WithinProfile(engine, PROFILE).run(feeds)
    assert outputs["logits"].shape == (5, 2)
    assert engine.shapes == [(4, 2), (3, 2)]


def _with_engine(project: Project, tmp_path: Path) -> Artefact:
    copy = project.copy(tmp_path / "copy")
    (copy.artefact / "model.plan").write_bytes(b"a plan")
    return with_engine_document(read_artefact(copy.artefact), profiles=[PROFILE.as_json()])


def test_an_engine_that_cannot_run_here_is_unproven_and_says_why(
    sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*arguments: object, **others: object) -> None:
        raise CapabilityMissing("a GPU", expected="one", found="none", remedy="use another machine")

    artefact = _with_engine(sst2, tmp_path)
    monkeypatch.setattr("nxmi_export.workflow.parity.engine_rung.find_library", absent)
    reason = "a GPU: expected one, found none; use another machine."
    assert engine_runner(artefact, "engine", 64) == Unproven(reason, deployed=True)
    project = Project(artefact.directory.parent)
    for strict in (False, True):
        result, failures = _result(project, gate=Gate(strict=strict))
        assert result.unproven == {Stage.ENGINE: Unproven(reason, deployed=True)}
        assert (f"The engine is unproven: {reason}" in failures) is strict


def test_a_plan_for_another_gpu_is_unproven_and_says_why(
    sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(plan: Path, **others: object) -> None:
        raise ArtefactError(plan.name, expected="one", found="another", remedy="build it again")

    artefact = _with_engine(sst2, tmp_path)
    module = "nxmi_export.workflow.parity.engine_rung"
    monkeypatch.setattr(f"{module}.find_library", lambda name: None)
    monkeypatch.setattr(f"{module}.TensorRtRunner", refuse)
    unproven = Unproven("model.plan: expected one, found another; build it again.", deployed=True)
    project = Project(artefact.directory.parent)
    for strict in (False, True):
        result, failures = _result(project, gate=Gate(strict=strict))
        assert result.unproven == {Stage.ENGINE: unproven}
        assert (f"The engine is unproven: {unproven.reason}" in failures) is strict


def test_a_plan_without_its_weights_is_unproven_and_says_why(sst2: Project, tmp_path: Path) -> None:
    stripped = EngineOptions(strip_weights=True).as_json()
    profiles = [PROFILE.as_json()]
    artefact = with_engine_document(
        _with_engine(sst2, tmp_path), profiles=profiles, options=stripped
    )
    assert engine_runner(artefact, "engine", 64) == Unproven(
        f"{artefact.directory / 'model.plan'}: expected a plan with its weights, found one built "
        "with --strip-weights, which runs only after a refit; build it again without the option.",
        deployed=True,
    )


def test_an_engine_for_shorter_texts_than_the_datas_is_unproven(
    sst2: Project, tmp_path: Path
) -> None:
    found = engine_runner(_with_engine(sst2, tmp_path), "engine", 65)
    assert found == Unproven(
        "The data have examples of 65 tokens, and the engine was built for 64; compare with a "
        "lower --max-length, or build it for more.",
        deployed=True,
    )


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "model.plan"])
def test_an_engine_that_was_built_from_other_files_is_refused(
    name: str, sst2: Project, tmp_path: Path
) -> None:
    artefact = _with_engine(sst2, tmp_path)
    path = artefact.path("engine.json")
    own = artefact.manifest.files[name].sha256
    path.write_text(path.read_text(encoding="utf-8").replace(own, "ab" * 32), encoding="utf-8")
    with pytest.raises(ArtefactError) as caught:
        engine_runner(artefact, "engine", 64)
    assert str(caught.value) == (
        f"{path}: expected an engine of this artefact's {name}, found one of a {name} with "
        "SHA-256 abababababab…, which is another; build the engine again"
    )


def test_an_engine_that_was_never_built_is_said_to_be_absent(sst2: Project) -> None:
    result, _ = _result(sst2)
    assert result.unproven == {Stage.ENGINE: Unproven("No engine was built.", deployed=False)}


def _other_words(directory: Path) -> None:
    """A tokenizer of the same words, two of them under each other's ids."""
    content = json.loads((directory / "tokenizer.json").read_text())
    words = content["model"]["vocab"]
    words["great"], words["awful"] = words["awful"], words["great"]
    (directory / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "edit", "found"),
    [
        (
            {},
            _other_words,
            "expected the dense model that was compressed, whose tokenizer gives the same ids, "
            "found others for example 1 of sst2; name the model that was compressed, or leave "
            "--dense out",
        ),
        (
            {"vocab_size": 19},
            None,
            "expected input_ids below its vocab_size, 19, found 24 in sst2 validation; save the "
            "tokenizer that the model was trained with beside it",
        ),
        (
            {"max_position_embeddings": 8},
            None,
            "expected a dense model for the 21 tokens of sst2, found one for 8; lower "
            "--max-length, or leave --dense out",
        ),
    ],
    ids=["tokenizer", "vocabulary", "positions"],
)
def test_a_dense_model_that_reads_other_tokens_is_refused(
    nxmi_export: Command,
    sst2: Project,
    tmp_path: Path,
    changes: dict[str, int],
    edit: Callable[[Path], None] | None,
    found: str,
) -> None:
    dense = write_hugging_face(tmp_path / "dense", tiny_model(**changes))
    if edit is not None:
        edit(dense)
    arguments = ("--task", "sst2", "--data", sst2.data, "-o", tmp_path / "run.json")
    outcome = nxmi_export("parity", sst2.artefact, *arguments, "--dense", dense)
    assert (outcome.code, outcome.sentence) == (2, f"{dense}: {found}")
    assert not (tmp_path / "run.json").exists()
