"""The fusions that pay on this machine: measured by an export, recorded, and used by all others."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from rich.console import Console

import nxmi_export
from nxmi_export.artefact import CPU_MODEL, MODEL, read_artefact
from nxmi_export.artefact.manifest import TimedOptions, TimedShape, Tuning
from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS, WITHOUT_FUSIONS
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.bench.session_tuning import CANDIDATES
from nxmi_export.glue import task_named
from nxmi_export.latency import Workload
from nxmi_export.lowering import lower, onnxruntime_passes
from nxmi_export.parity.ladder import Stage
from nxmi_export.recipe import Placement
from nxmi_export.report.tables import artefact_table
from nxmi_export.workflow.bench.contenders import contenders
from nxmi_export.workflow.bench.request import BenchRequest
from nxmi_export.workflow.export import ExportRequest, export
from nxmi_export.workflow.parity import ParityRequest, check_parity
from nxmi_export.workflow.parity.records import session_mismatches
from passes.errors import RefusedGraph
from passes.fuse_attention import FuseAttention
from passes.spell_out_products import PRODUCT
from tests.pipeline.parity_project import Project
from tests.tiny_models import write_model_file

CHOSEN = {WITHOUT_FUSIONS: "SkipLayerNormFusion"}
TUNED = {**CHOSEN, **EXACT_PRODUCTS}
SHAPES = {"1x64": TimedShape(seconds=1e-3, speedup=1.25, low=1.2, high=1.3)}
TUNING = Tuning(
    processor="a processor",
    onnxruntime="1.32.0",
    timed=(TimedOptions(graph="portable", options=CHOSEN, shapes=SHAPES, won=True),),
    graph="portable",
    options=CHOSEN,
)


@pytest.fixture
def tuned(sst2: Project, tmp_path: Path) -> Project:
    project = sst2.copy(tmp_path / "copy")
    project.change(tuning=TUNING, session_options=TUNED)
    return project


@pytest.fixture
def forms(tmp_path: Path) -> dict[str, Path]:
    """The CPU graph of one model in each form."""
    model = write_model_file(tmp_path / "model.pt", placement=Placement.LINEAR)
    folder = export(ExportRequest(str(model), tmp_path / "artefact")).directory
    written = {"portable": folder / CPU_MODEL}
    for form, choice in (
        ("attention", {"fused_attention": True}),
        ("products", {"integer_products": True}),
        ("attention+products", {"fused_attention": True, "integer_products": True}),
    ):
        graph = lower(ir.load(folder / MODEL), onnxruntime_passes({}, **choice)).model
        written[form] = folder / f"{form}.onnx"
        ir.save(graph, written[form])
    return written


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """The files of optimized sessions, and what those were told beside what every session is."""
    from nxmi_export.backends import onnxruntime_session

    opened: list[tuple[str, dict[str, str]]] = []
    original: Callable[..., Any] = onnxruntime_session._open
    make = onnxruntime_session.session_options

    def options(ort: Any, folder: Path, *, optimize: bool, **facts: Any) -> Any:
        if optimize:
            opened.append(("", dict(facts["entries"])))
        return make(ort, folder, optimize=optimize, **facts)

    def open_(ort: Any, path: Path, *rest: Any) -> Any:
        if opened and not opened[-1][0]:
            opened[-1] = (path.name, opened[-1][1])
        return original(ort, path, *rest)

    monkeypatch.setattr(onnxruntime_session, "session_options", options)
    monkeypatch.setattr(onnxruntime_session, "_open", open_)
    return opened


def test_an_export_times_the_fusions_and_records_what_it_chose(
    sst2: Project, tmp_path: Path
) -> None:
    stages: list[str] = []
    request = ExportRequest(
        str(sst2.folder / "model.pt"), tmp_path / "artefact", tune=True, tuning_cache=tmp_path
    )
    manifest = export(request, on_stage=stages.append).manifest
    assert "timing graphs and fusions of onnxruntime" in stages
    tuning = manifest.tuning
    assert tuning is not None
    assert [each.options for each in tuning.timed[:2]] == [dict(each) for each in CANDIDATES]
    assert [each.graph for each in tuning.timed] == ["portable", "portable", "products"]
    assert {shape for each in tuning.timed for shape in each.shapes} == {"1x64", "4x64"}
    assert manifest.session_options == {**tuning.options, **EXACT_PRODUCTS}
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_without_being_asked_an_export_times_nothing(sst2: Project) -> None:
    manifest = read_artefact(sst2.artefact).manifest
    assert (manifest.tuning, manifest.session_options) == (None, dict(EXACT_PRODUCTS))


def test_parity_judges_the_session_that_is_deployed(
    tuned: Project, sessions: list[tuple[str, dict[str, str]]]
) -> None:
    request = ParityRequest(task_named("sst2"), tuned.data, drift_examples=4)
    run = check_parity(read_artefact(tuned.artefact), request, on_progress=lambda *_: None)
    assert run is not None
    assert run.ok
    assert {name for name, _ in sessions} == {CPU_MODEL}
    assert len(sessions) > 1  # to run, to replay
    assert all(entries == TUNED for _, entries in sessions)


def test_bench_times_the_session_that_is_deployed(
    tuned: Project, sessions: list[tuple[str, dict[str, str]]]
) -> None:
    request = BenchRequest((Workload(1, 8),))
    found = {each.key: each for each in contenders(read_artefact(tuned.artefact), request)}
    for key in ("onnxruntime", "onnxruntime-portable"):
        found[key].open()
    assert [entries for _, entries in sessions] == [TUNED, {}]


def test_a_server_runs_the_session_that_was_judged(tuned: Project) -> None:
    with nxmi_export.load(tuned.artefact) as model:
        assert [each.label for each in model.predict(["a fine film"])]


def test_no_entry_takes_exact_products_away(
    sst2: Project, sessions: list[tuple[str, dict[str, str]]]
) -> None:
    (key,) = EXACT_PRODUCTS
    path = sst2.artefact / CPU_MODEL
    with OnnxRuntimeRunner(path, optimize=True, threads=1, entries={key: "0"}):
        assert sessions == [(CPU_MODEL, dict(EXACT_PRODUCTS))]


@pytest.mark.parametrize(
    ("options", "count"), [(TUNED, 0), (dict(EXACT_PRODUCTS), 1), ({**TUNED, "a": "b"}, 1)]
)
def test_options_that_nothing_has_measured_are_a_mismatch(
    options: Mapping[str, str], count: int, tuned: Project
) -> None:
    tuned.change(session_options=dict(options))
    found = list(session_mismatches(read_artefact(tuned.artefact)))
    assert len(found) == count
    assert all(str(each).startswith("model.cpu.onnx: session_options in") for each in found)


def test_the_table_says_what_the_choice_was_worth(tuned: Project) -> None:
    console = Console(width=200, color_system=None)
    with console.capture() as shown:
        console.print(artefact_table(read_artefact(tuned.artefact)))
    text = shown.get()
    assert (
        "set optimization.disable_specified_optimizers to SkipLayerNormFusion, "
        "which was fastest here" in text
    )
    assert "portable graph, 1.25x (1x64) as fast here as the portable graph with every" in text
    assert "set session.x64quantprecision to 1, where x86 would saturate" in text


@pytest.mark.parametrize(
    ("chosen", "last_pass"),
    [
        ("attention", "FuseAttention"),
        ("products", "IntegerProducts"),
        ("attention+products", "IntegerProducts"),
    ],
)
def test_an_export_writes_the_graph_that_was_fastest(
    chosen: str, last_pass: str, sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attention is one operator where the placement leaves attention in float."""
    timed: list[dict[str, set[str]]] = []
    monkeypatch.setattr("nxmi_export.workflow.cpu_graph.tune_session", _choosing(chosen, timed))
    model = write_model_file(tmp_path / "model.pt", placement=Placement.LINEAR)
    artefact = export(ExportRequest(str(model), tmp_path / "artefact", tune=True))
    (forms,) = timed
    assert list(forms) == ["portable", "attention", "products", "attention+products"]
    assert "Attention" not in forms["portable"] | forms["products"]
    assert "Softmax" not in forms["attention"] | forms["attention+products"]
    assert PRODUCT not in forms["portable"] | forms["attention"]
    assert "DequantizeLinear" not in forms["products"] | forms["attention+products"]
    assert _operators(artefact.path(CPU_MODEL)) == timed[0][chosen]
    assert {path.name for path in artefact.directory.glob("*.onnx")} == {MODEL, CPU_MODEL}
    assert artefact.manifest.ledgers["onnxruntime"][-1]["pass"] == last_pass
    assert artefact.manifest.session_options == {**CHOSEN, **EXACT_PRODUCTS}
    across = (Stage.COMPRESSED, Stage.OPTIMIZED)
    request = ParityRequest(task_named("sst2"), sst2.data, drift=True, layer_errors=(across,))
    run = check_parity(artefact, request, on_progress=lambda *_: None)
    assert run is not None
    assert run.splits[0].verdict.failures == ()


@pytest.mark.parametrize("form", ["attention", "products", "attention+products"])
def test_every_form_means_what_the_portable_graph_means(
    form: str, forms: Mapping[str, Path]
) -> None:
    """As written, bit for bit; with its own kernels, up to what float sums leave open."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 64, (3, 9))
    mask = np.ones_like(ids)
    mask[1, 5:], mask[2, :4] = 0, 0
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    logits = {}
    for name in ("portable", form):
        for optimize in (False, True):
            with OnnxRuntimeRunner(forms[name], optimize=optimize, threads=1) as runner:
                fed = {each: feeds[each] for each in runner.input_names}
                logits[name, optimize] = runner.run(fed)["logits"]
    np.testing.assert_array_equal(logits[form, False], logits["portable", False])
    np.testing.assert_allclose(logits[form, True], logits["portable", True], rtol=0, atol=1e-5)


def test_a_release_without_exact_products_is_not_offered_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[dict[str, set[str]]] = []
    monkeypatch.setattr("nxmi_export.workflow.cpu_graph.tune_session", _choosing("portable", timed))
    monkeypatch.setattr("nxmi_export.workflow.cpu_graph.keeps_sums", lambda entries: False)
    model = write_model_file(tmp_path / "model.pt", placement=Placement.LINEAR)
    export(ExportRequest(str(model), tmp_path / "artefact", tune=True))
    assert list(timed[0]) == ["portable", "attention"]


def test_a_form_that_cannot_be_made_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **others: Any) -> None:
        raise RefusedGraph("a.MatMul", expected="two inputs", found="one", remedy="none")

    timed: list[dict[str, set[str]]] = []
    monkeypatch.setattr("nxmi_export.workflow.cpu_graph.tune_session", _choosing("portable", timed))
    monkeypatch.setattr(FuseAttention, "call", refuse)
    model = write_model_file(tmp_path / "model.pt", placement=Placement.LINEAR)
    artefact = export(ExportRequest(str(model), tmp_path / "artefact", tune=True))
    assert list(timed[0]) == ["portable", "products"]
    tuning = artefact.manifest.tuning
    assert tuning is not None
    (refused,) = tuning.refused
    assert refused.graph == "attention"
    assert "found [a.MatMul: expected two inputs, found one; none]" in refused.reason
    console = Console(width=200, color_system=None)
    with console.capture() as shown:
        console.print(artefact_table(artefact))
    assert "not one operator for attention: FuseAttention: expected a graph" in shown.get()
    assert {path.name for path in artefact.directory.glob("*.onnx")} == {MODEL, CPU_MODEL}
    assert not any(path.name.startswith("artefact.") for path in tmp_path.iterdir())


def test_quantized_attention_is_no_operator_of_its_own(
    sst2: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[dict[str, set[str]]] = []
    monkeypatch.setattr("nxmi_export.workflow.cpu_graph.tune_session", _choosing("products", timed))
    request = ExportRequest(str(sst2.folder / "model.pt"), tmp_path / "artefact", tune=True)
    artefact = export(request)
    assert {path.name for path in artefact.directory.glob("*.onnx")} == {MODEL, CPU_MODEL}
    assert list(timed[0]) == ["portable", "products"]
    run = check_parity(
        artefact, ParityRequest(task_named("sst2"), sst2.data), on_progress=lambda *_: None
    )
    assert run is not None
    assert run.splits[0].verdict.failures == ()


def _choosing(graph: str, timed: list[dict[str, set[str]]]) -> Callable[..., Tuning]:
    """In place of a measurement, which notes what it was given."""

    def tune(graphs: Mapping[str, Path], **facts: Any) -> Tuning:
        timed.append({name: _operators(path) for name, path in graphs.items()})
        (won,) = TUNING.timed
        change = {"graph": graph, "timed": (won, won.model_copy(update={"graph": graph}))}
        return TUNING.model_copy(update=change)

    return tune


def _operators(path: Path) -> set[str]:
    return {node.op_type for node in ir.load(path).graph}
