"""Which accounts of an engine a certificate believes: those that engine.json binds to its plan."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nxmi_export.artefact import Artefact, read_artefact
from nxmi_export.backends.tensorrt_engine.layer_info import Inspection, layer_info
from nxmi_export.certificate import Claim, read_certificate
from nxmi_export.errors import ArtefactError, UsageError
from nxmi_export.recipe import Placement
from tests.pipeline.certified_artefacts import (
    OF_ENGINE,
    PROVED,
    QUERY,
    REFUTED,
    UNPROVEN,
    UP,
    answers,
    as_listed,
    cell,
    certified,
    copied,
    rebound,
)
from tests.pipeline.engine_files import (
    SPARSE_KERNEL,
    Log,
    inspector_json,
    with_engine,
)
from tests.pipeline.exports import Exported


@pytest.fixture
def sparse(export_of: Callable[[Placement], Exported], tmp_path: Path) -> Artefact:
    return copied(export_of(Placement.SPARSE), tmp_path)


def test_an_engine_of_another_graph_is_refuted(sparse: Artefact) -> None:
    graph = {"name": "model.onnx", "sha256": "ab" * 32, "tensors": []}
    certificate = certified(with_engine(sparse, Log().text, graph=graph))
    for claim in (*OF_ENGINE, Claim.FUSED):
        assert answers(certificate, claim) == {REFUTED}
    assert cell(certificate, UP, Claim.INT8_IN)[1] == (
        "the engine was built from another graph: model.onnx with SHA-256 abababababab…, "
        "which is not the artefact's"
    )
    assert answers(certificate, Claim.STORED) == {PROVED}


def test_an_engine_of_the_same_graph_with_other_weights_is_refuted(sparse: Artefact) -> None:
    digest = sparse.manifest.files["model.onnx"].sha256
    weights = {"name": "model.onnx.data", "sha256": "ab" * 32}
    graph = {"name": "model.onnx", "sha256": digest, "tensors": [weights]}
    certificate = certified(with_engine(sparse, Log().text, graph=graph))
    assert cell(certificate, UP, Claim.INT8_IN) == (
        REFUTED,
        "the engine was built with other weights: model.onnx.data with SHA-256 abababababab…, "
        "which is not the artefact's",
    )


def test_an_engine_without_its_graph_is_refused(sparse: Artefact) -> None:
    artefact = with_engine(sparse, Log().text, graph=...)
    with pytest.raises(ArtefactError) as caught:
        certified(artefact)
    assert str(caught.value) == (
        f"{artefact.directory / 'engine.json'}: expected what nxmi-export build writes under the "
        "schema nxmi-export/engine/3, found graph: Field required; build the engine again"
    )


def with_other_log(artefact: Artefact, log: str) -> Artefact:
    """The artefact with another build.log, of which its manifest knows and engine.json does not."""
    (artefact.directory / "build.log").write_text(log, encoding="utf-8")
    return rebound(as_listed(artefact))


def test_another_log_proves_nothing_of_the_engine(sparse: Artefact) -> None:
    artefact = with_other_log(with_engine(sparse, Log(in_float=(UP,)).text), Log().text)
    certificate = certified(artefact)
    for claim in (*OF_ENGINE, Claim.FUSED):
        assert answers(certificate, claim) == {UNPROVEN}
    for claim in (Claim.MAPPING, Claim.NO_FLOAT, Claim.MERGED_QKV):
        assert certificate.model[claim].answer is UNPROVEN
    now = artefact.manifest.files["build.log"].sha256[:12]
    then = json.loads((artefact.directory / "engine.json").read_text())["log"]["sha256"][:12]
    assert cell(certificate, UP, Claim.SPARSE)[1] == (
        f"build.log with SHA-256 {now}… is not the log of this build, which engine.json has with "
        f"{then}…; it says: the kernel is {SPARSE_KERNEL}"
    )


def test_what_another_log_refutes_stays_refuted(sparse: Artefact) -> None:
    log = Log(in_float=(UP,)).text
    certificate = certified(with_other_log(with_engine(sparse, Log().text), log))
    assert cell(certificate, UP, Claim.INT8_IN)[0] is REFUTED
    assert cell(certificate, QUERY, Claim.INT8_IN)[0] is UNPROVEN


def test_an_engine_whose_log_is_gone_is_unproven(sparse: Artefact) -> None:
    artefact = with_engine(sparse, Log().text)
    files = {name: each for name, each in artefact.manifest.files.items() if name != "build.log"}
    artefact.manifest.model_copy(update={"files": files}).write(artefact.directory)
    certificate = certified(read_artefact(artefact.directory))
    assert answers(certificate, Claim.INT8_IN) == {UNPROVEN}
    assert certificate.model[Claim.MAPPING].answer is UNPROVEN


def test_a_log_of_another_plan_is_refuted(sparse: Artefact) -> None:
    plan = {"name": "model.plan", "bytes": 6, "sha256": "cd" * 32}
    certificate = certified(with_engine(sparse, Log().text, plan=plan))
    assert cell(certificate, UP, Claim.INT8_IN) == (
        REFUTED,
        "engine.json and its log are of another plan than model.plan",
    )


@pytest.mark.parametrize("release", [10, 11])
def test_the_inspectors_file_of_the_build_is_evidence_too(
    sparse: Artefact, tmp_path: Path, release: int
) -> None:
    inspected = inspector_json(Log(), tmp_path / "layers_x.json", release=release).read_text()
    layers = layer_info((), {}, Inspection(json.loads(inspected)))
    artefact = with_engine(sparse, "a log of nothing", layers=json.dumps(layers))
    certificate = certified(artefact, layer_info=artefact.directory / "layers_model.json")
    for claim in (Claim.INT8_IN, Claim.INT8_OUT, Claim.FUSED, Claim.SPARSE):
        assert answers(certificate, claim) == {PROVED}
    assert answers(certificate, Claim.ELIGIBLE) == {UNPROVEN}  # it counts nothing
    assert certificate.model[Claim.MAPPING].answer is PROVED
    assert certificate.layer_info is not None
    assert certificate.layer_info.path == "layers_model.json"


@pytest.mark.parametrize("built", [False, True], ids=["no engine", "an engine"])
def test_an_inspectors_file_that_nothing_binds_to_the_plan_proves_nothing(
    sparse: Artefact, tmp_path: Path, built: bool
) -> None:
    path = inspector_json(Log(), tmp_path / "layers_x.json", release=10)
    artefact = with_engine(sparse, "a log of nothing") if built else sparse
    certificate = certified(artefact, layer_info=path)
    for claim in (*OF_ENGINE, Claim.FUSED):
        assert answers(certificate, claim) == {UNPROVEN}
    for claim in (Claim.MAPPING, Claim.NO_FLOAT, Claim.MERGED_QKV):
        assert certificate.model[claim].answer is UNPROVEN
    why = (
        "nothing binds layers_x.json to model.plan: engine.json has no other hash of layers than "
        "that of layers_model.json"
        if built
        else "nothing binds layers_x.json to a plan: the artefact has no engine"
    )
    told = cell(certificate, UP, Claim.SPARSE)[1]
    assert told.endswith(f"{why}; it says: the kernel is {SPARSE_KERNEL}")


def test_what_an_unbound_inspectors_file_refutes_is_refuted(
    sparse: Artefact, tmp_path: Path
) -> None:
    path = inspector_json(Log(in_float=(UP,)), tmp_path / "layers_x.json", release=10)
    certificate = certified(sparse, layer_info=path)
    assert cell(certificate, UP, Claim.INT8_IN)[0] is REFUTED
    assert cell(certificate, QUERY, Claim.INT8_IN)[0] is UNPROVEN


def test_a_build_without_a_gpu_has_no_inspectors_account(sparse: Artefact) -> None:
    layers = layer_info((), {}, Inspection(reason="no NVIDIA driver"))
    artefact = with_engine(sparse, Log().text, layers=json.dumps(layers))
    path = artefact.directory / "layers_model.json"
    with pytest.raises(UsageError) as caught:
        certified(artefact, layer_info=path)
    assert str(caught.value) == (
        f"{path}: expected the inspector's account of the plan, beside that of the build log, "
        "found none: no NVIDIA driver; build the engine on a machine with its GPU, or leave "
        "--layer-info out"
    )


def test_the_linter_is_asked_about_the_gpu_and_the_lengths_of_the_engine(sparse: Artefact) -> None:
    linted = {"assumed": None, "counts": {}, "findings": []}
    turing = linted | {"compute_capabilities": ["sm86", "sm75"]}
    found = certified(with_engine(sparse, Log().text, lint=turing)).model[Claim.LINT]
    assert found.answer is REFUTED
    assert found.why.startswith("model.onnx for sm86, sm75 and 64 tokens: ")
    assert "turing-float" in found.why


def test_the_linter_proves_nothing_of_an_engine_for_a_gpu_that_is_not_known(
    sparse: Artefact,
) -> None:
    guess = {"compute_capabilities": ["sm86"], "assumed": "no driver", "counts": {}, "findings": []}
    found = certified(with_engine(sparse, Log().text, lint=guess)).model[Claim.LINT]
    assert found.answer is UNPROVEN
    assert found.why.startswith("no driver; model.onnx for sm86 and 64 tokens: ")


def test_what_the_inspector_refutes_the_log_cannot_prove(sparse: Artefact, tmp_path: Path) -> None:
    path = inspector_json(Log(in_float=(UP,)), tmp_path / "layers_x.json", release=10)
    certificate = certified(with_engine(sparse, Log().text), layer_info=path)
    assert cell(certificate, UP, Claim.INT8_IN)[0] is REFUTED
    assert cell(certificate, QUERY, Claim.INT8_IN)[0] is PROVED
    assert answers(certificate, Claim.ELIGIBLE) == {PROVED}


def test_a_file_that_no_inspector_wrote_is_refused_and_nothing_written(
    sparse: Artefact, tmp_path: Path
) -> None:
    path = tmp_path / "layers_x.json"
    path.write_text('{"Layers": ["one", "two"], "Bindings": []}')
    with pytest.raises(UsageError) as caught:
        certified(sparse, layer_info=path)
    assert str(caught.value) == (
        f"{path}: expected what trtexec --exportLayerInfo writes of an engine built in detail, "
        "found the names of layers alone; "
        "build with --profilingVerbosity=detailed and export the layers again"
    )
    assert not (sparse.directory / "certificate.json").exists()


def parity_report(artefact: Artefact) -> Path:
    """A report of a passing run of the artefact's files as they are, beside it."""
    rung = {"name": "TensorRT engine", "examples": 8, "non_finite_examples": []}
    split = {
        "dataset": {"task": "sst2", "split": "validation", "examples": 8},
        "ok": True,
        "failures": [],
        "rungs": {"engine": rung},
        "unproven": {},
    }
    document = {
        "schema": "nxmi-export/parity-run/4",
        "ok": True,
        "limit": None,
        "allowances": [],
        "facts": artefact.manifest.facts_sha256,
        "artefact": {name: each.sha256 for name, each in artefact.manifest.files.items()},
        "checkpoint": {"path": "model.pt", "sha256": artefact.manifest.source.sha256},
        "splits": [split],
    }
    path = artefact.directory.parent / "parity.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_parity_report_of_this_plan_proves_that_it_ran_and_so_everything(
    sparse: Artefact,
) -> None:
    artefact = with_engine(sparse, Log().text)
    path = parity_report(artefact)
    certificate = certified(artefact, parity=path)
    assert certificate.model[Claim.RUNS].why == "TensorRT engine over 8 examples"
    assert certificate.answer is PROVED
    assert certificate.parity is not None
    assert certificate.parity.path == "../parity.json"
    assert read_certificate(read_artefact(artefact.directory)) == certificate
    path.write_text("{}")
    with pytest.raises(ArtefactError, match=r"found one of .*parity\.json with SHA-256"):
        read_certificate(read_artefact(artefact.directory))


def test_a_parity_report_of_another_plan_is_refused(sparse: Artefact) -> None:
    path = parity_report(with_engine(sparse, Log().text))
    rebuilt = with_engine(sparse, Log(chosen=3).text)
    with pytest.raises(ArtefactError) as caught:
        certified(rebuilt, parity=path)
    assert str(caught.value).startswith(
        f"{path}: expected a parity report of the artefact's files as they are now, found one of a "
    )


def test_a_parity_report_of_an_engine_of_another_graph_proves_nothing(sparse: Artefact) -> None:
    graph = {"name": "model.onnx", "sha256": "ab" * 32, "tensors": []}
    artefact = with_engine(sparse, Log().text, graph=graph)
    certificate = certified(artefact, parity=parity_report(artefact))
    assert certificate.model[Claim.RUNS].answer is REFUTED
