"""Certificates of exported models: everything proved, and every planted fault found where it is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from nxmi_export.artefact import FP16_MODEL, Artefact, file_record, read_artefact
from nxmi_export.backends.tensorrt_engine import EngineOptions, Library, ShapeProfile
from nxmi_export.backends.tensorrt_engine.layer_info import Inspection, layer_info
from nxmi_export.certificate import Answer, Certificate, Claim, read_certificate
from nxmi_export.errors import ArtefactError, UsageError
from nxmi_export.recipe import Placement
from nxmi_export.workflow.build import build
from nxmi_export.workflow.certify import CertifyRequest, certify_artefact
from passes.linear_layers import LinearLayer, linear_layers
from tests.pipeline.engine_files import (
    DENSE_KERNEL,
    PRODUCTS,
    SPARSE_KERNEL,
    Log,
    inspector_json,
    with_engine,
)
from tests.pipeline.exports import ENCODER_LINEARS, LAYERS, Exported, external_tensors, load

QUERY = "bert.encoder.layer.0.attention.self.query"
UP = "bert.encoder.layer.1.intermediate.dense"
ATTENTION = "bert.encoder.layer.0.attention.self"
OF_FILES = (Claim.MASK, Claim.STORED, Claim.PARITY)
OF_ENGINE = (Claim.INT8_IN, Claim.INT8_OUT, Claim.ELIGIBLE, Claim.SPARSE)
PROVED, REFUTED, UNPROVEN, NOT_CLAIMED = Answer


@pytest.fixture
def sparse(export_of: Callable[[Placement], Exported], tmp_path: Path) -> Artefact:
    return copied(export_of(Placement.SPARSE), tmp_path)


def copied(exported: Exported, folder: Path) -> Artefact:
    """The artefact and, where its manifest looks for it, the checkpoint, for a test to change."""
    shutil.copy(exported.checkpoint, folder / "model.pt")
    return read_artefact(Path(shutil.copytree(exported.directory, folder / "model.artefact")))


def certified(artefact: Artefact, **options: Any) -> Certificate:
    return certify_artefact(CertifyRequest(artefact, **options))


def answers(certificate: Certificate, claim: Claim) -> set[Answer]:
    modules = (*certificate.linears, *certificate.attentions)
    return {each.claims[claim].answer for each in modules if claim in each.claims}


def cell(certificate: Certificate, module: str, claim: Claim) -> tuple[Answer, str]:
    modules = (*certificate.linears, *certificate.attentions)
    [found] = [each.claims[claim] for each in modules if each.module == module]
    return found.answer, found.why


def rebound(artefact: Artefact) -> Artefact:
    """The artefact whose manifest has the hashes of the files as they are."""
    directory = artefact.directory
    files = {name: file_record(directory / name) for name in artefact.manifest.files}
    artefact.manifest.model_copy(update={"files": files}).write(directory)
    return read_artefact(directory)


def write_code(artefact: Artefact, module: str, at: tuple[int, int], code: int) -> None:
    """Change one stored code, (in, out), in the bytes that both ONNX files refer to."""
    path = artefact.directory / "model.onnx"
    graph = load(path).graph
    [product] = [node for node in graph.node if node.name == f"{module}/MatMul"]
    [reader] = [node for node in graph.node if product.input[1] in node.output]
    location, offset, length = external_tensors(path)[reader.input[0]]
    [stored] = [each for each in graph.initializer if each.name == reader.input[0]]
    rows, columns = stored.dims
    assert length == rows * columns
    with (artefact.directory / location).open("r+b") as file:
        file.seek(offset + at[0] * columns + at[1])
        file.write(code.to_bytes(1, "big", signed=True))


def code_at(exported: Exported, module: str, at: tuple[int, int]) -> int:
    return int(exported.model.get_submodule(module).codes()[at[1], at[0]])


def test_without_an_engine_all_of_the_files_is_proved_and_all_of_the_engine_unproven(
    sparse: Artefact,
) -> None:
    certificate = certified(sparse)
    assert (len(certificate.linears), len(certificate.attentions)) == (ENCODER_LINEARS, LAYERS)
    for claim in OF_FILES:
        assert answers(certificate, claim) == {PROVED}
    for claim in (*OF_ENGINE, Claim.FUSED):
        assert answers(certificate, claim) == {UNPROVEN}
    assert {claim for claim, found in certificate.model.items() if found.answer is PROVED} == {
        Claim.SCALES,
        Claim.LINT,
    }
    assert certificate.answer is UNPROVEN
    assert cell(certificate, UP, Claim.INT8_IN)[1] == (
        f"no engine was built; run nxmi-export build {sparse.directory}"
    )


def test_the_evidence_of_the_files_is_what_was_counted(sparse: Artefact) -> None:
    certificate = certified(sparse)
    assert cell(certificate, UP, Claim.MASK)[1] == "2048 groups, 50.0% of the weights are zero"
    assert cell(certificate, UP, Claim.STORED)[1] == (
        "2:4 on the stored integers, along the reduction axis, in model.onnx, model.cpu.onnx"
    )
    assert cell(certificate, UP, Claim.PARITY)[1] == (
        "stored integers, scales and bias equal PyTorch's, in model.onnx, model.cpu.onnx"
    )


def test_a_tensorrt_engine_with_sparse_kernels_everywhere_is_proved_but_for_running(
    sparse: Artefact,
) -> None:
    certificate = certified(with_engine(sparse, Log().text))
    for claim in (*OF_FILES, *OF_ENGINE, Claim.FUSED):
        assert answers(certificate, claim) == {PROVED}
    assert {claim for claim, found in certificate.model.items() if found.answer is not PROVED} == {
        Claim.RUNS
    }
    assert certificate.engine == "tensorrt 10.14.1"


def test_engine_evidence_is_a_line_of_the_log_and_the_kernel(sparse: Artefact) -> None:
    artefact = with_engine(sparse, Log().text)
    certificate = certified(artefact)
    [up] = [each for each in certificate.linears if each.module == UP]
    [place] = up.claims[Claim.SPARSE].evidence
    name, _, number = place.partition(" line ")
    line = (artefact.directory / name).read_text().split("\n")[int(number) - 1]
    assert f"Metadata: [ONNX Layer: {UP}/MatMul]" in line
    assert up.claims[Claim.SPARSE].why == f"the kernel is {SPARSE_KERNEL}"


def test_a_flipped_code_is_refuted_in_its_module_alone(
    sparse: Artefact, export_of: Callable[[Placement], Exported]
) -> None:
    weight = export_of(Placement.SPARSE).model.get_submodule(UP).codes()
    out, into = (int(each) for each in (weight != 0).nonzero()[0])
    code = int(weight[out, into])
    write_code(sparse, UP, (into, out), -code)
    certificate = certified(rebound(sparse))
    refuted = {
        each.module for each in certificate.linears if each.claims[Claim.PARITY].answer is REFUTED
    }
    assert refuted == {UP}
    assert cell(certificate, UP, Claim.PARITY)[1] == (
        f"model.onnx: {UP}: code at [{out}, {into}] is {-code}, not {code}"
    )
    assert answers(certificate, Claim.STORED) == {PROVED}


def test_three_non_zeros_in_a_stored_group_are_refuted(
    sparse: Artefact, export_of: Callable[[Placement], Exported]
) -> None:
    exported = export_of(Placement.SPARSE)
    codes = [code_at(exported, QUERY, (row, 5)) for row in range(8, 12)]
    zero = codes.index(0)
    write_code(sparse, QUERY, (8 + zero, 5), 7)
    certificate = certified(rebound(sparse))
    codes[zero] = 7
    assert cell(certificate, QUERY, Claim.STORED) == (
        REFUTED,
        "model.onnx: expected at most 2 non-zeros in every 4 weights along its input, found "
        f"{codes} at inputs 8 to 11 of output channel 5, one of 1 such groups",
    )
    # TensorRT looks at the same numbers.
    assert answers(certificate, Claim.MASK) == {PROVED}
    engine = certified(with_engine(rebound(sparse), Log().text))
    assert cell(engine, QUERY, Claim.ELIGIBLE)[0] is REFUTED
    assert cell(engine, UP, Claim.ELIGIBLE)[0] is PROVED


def test_a_broken_mask_in_the_checkpoint_is_refuted(sparse: Artefact) -> None:
    path = sparse.directory.parent / "model.pt"
    content = torch.load(path, weights_only=True)
    weight = content["state"][f"{QUERY}.weight"]
    weight[3, 4:8] = torch.tensor([1.0, 2.0, 0.0, 3.0])
    torch.save(content, path)
    source = sparse.manifest.source.model_copy(update={"sha256": file_record(path).sha256})
    sparse.manifest.model_copy(update={"source": source}).write(sparse.directory)
    certificate = certified(read_artefact(sparse.directory))
    assert cell(certificate, QUERY, Claim.MASK) == (
        REFUTED,
        "not 2:4 at [3, 4], where it is [1, 2, 0, 3], one of 1 such groups",
    )
    assert answers(certificate, Claim.PARITY) == {UNPROVEN}
    assert "expected 2:4 sparsity along in_features" in cell(certificate, UP, Claim.PARITY)[1]


def test_a_missing_checkpoint_leaves_its_claims_unproven(sparse: Artefact) -> None:
    (sparse.directory.parent / "model.pt").unlink()
    certificate = certified(sparse)
    assert certificate.checkpoint is None
    for claim in (Claim.MASK, Claim.PARITY):
        assert answers(certificate, claim) == {UNPROVEN}
    assert cell(certificate, UP, Claim.MASK)[1] == (
        "../model.pt: expected the checkpoint that the artefact was exported from, "
        "found nothing at this path; pass its new place with --checkpoint"
    )
    assert answers(certificate, Claim.STORED) == {PROVED}


def test_another_checkpoint_proves_nothing(sparse: Artefact) -> None:
    path = sparse.directory.parent / "model.pt"
    path.write_bytes(path.read_bytes() + b"\0")
    certificate = certified(sparse)
    assert answers(certificate, Claim.PARITY) == {UNPROVEN}
    assert "found other contents" in cell(certificate, UP, Claim.MASK)[1]


def test_a_checkpoint_that_moved_is_named(sparse: Artefact) -> None:
    path = sparse.directory.parent / "model.pt"
    moved = path.rename(path.with_name("moved.pt"))
    certificate = certified(sparse, checkpoint=str(moved))
    assert answers(certificate, Claim.PARITY) == {PROVED}
    assert certificate.checkpoint is not None
    assert certificate.checkpoint.path == "../moved.pt"


def test_a_float_product_in_the_engine_is_refuted(sparse: Artefact) -> None:
    certificate = certified(with_engine(sparse, Log(in_float=(UP,)).text))
    refuted = {
        each.module for each in certificate.linears if each.claims[Claim.INT8_IN].answer is REFUTED
    }
    assert refuted == {UP}
    assert certificate.model[Claim.NO_FLOAT].answer is REFUTED
    assert certificate.model[Claim.NO_FLOAT].why.startswith(f"gemm {UP.replace('.', '_')}")


def test_a_float_output_is_refuted_where_the_placement_promises_int8(sparse: Artefact) -> None:
    certificate = certified(with_engine(sparse, Log(output="Float", kernel=DENSE_KERNEL).text))
    assert answers(certificate, Claim.INT8_OUT) == {REFUTED}
    assert cell(certificate, UP, Claim.INT8_IN)[0] is PROVED


def test_a_placement_without_int8_outputs_claims_none(
    export_of: Callable[[Placement], Exported], tmp_path: Path
) -> None:
    artefact = copied(export_of(Placement.ATTENTION), tmp_path)
    certificate = certified(with_engine(artefact, Log(output="Float", chosen=0).text))
    assert answers(certificate, Claim.INT8_OUT) == {NOT_CLAIMED}
    assert certificate.model[Claim.LINT].answer is PROVED
    assert certificate.model[Claim.LINT].why == (
        "model.onnx for sm86 and 64 tokens: 12 notes, "
        "and 4 values in float that the placement does not promise in INT8"
    )


def test_float_attention_is_no_claim_of_the_linear_placement(
    export_of: Callable[[Placement], Exported], tmp_path: Path
) -> None:
    certificate = certified(copied(export_of(Placement.LINEAR), tmp_path))
    assert answers(certificate, Claim.FUSED) == {NOT_CLAIMED}
    assert {each.claims[Claim.INT8_IN].answer for each in certificate.attentions} == {NOT_CLAIMED}


def test_attention_that_runs_apart_is_refuted_as_fused_and_still_int8(sparse: Artefact) -> None:
    certificate = certified(with_engine(sparse, Log(fused=False).text))
    assert cell(certificate, ATTENTION, Claim.FUSED)[0] is REFUTED
    assert cell(certificate, ATTENTION, Claim.INT8_IN)[0] is PROVED


def test_query_key_and_value_apart_are_refuted(sparse: Artefact) -> None:
    certificate = certified(with_engine(sparse, Log(merged=False).text))
    assert certificate.model[Claim.MERGED_QKV].answer is REFUTED
    assert certificate.model[Claim.MERGED_QKV].why.startswith(
        ", ".join(f"{ATTENTION}.{name}" for name in ("query", "key", "value")) + ": 3 products: "
    )


def test_a_module_that_the_engine_does_not_list_is_unproven(sparse: Artefact) -> None:
    certificate = certified(with_engine(sparse, Log(absent=(UP,)).text))
    assert {cell(certificate, UP, claim)[0] for claim in OF_ENGINE} == {UNPROVEN}
    assert certificate.model[Claim.MAPPING].answer is UNPROVEN
    assert certificate.model[Claim.MAPPING].why.startswith(f"{UP} was not found")


def test_a_product_of_another_graph_refutes_the_mapping(sparse: Artefact) -> None:
    certificate = certified(with_engine(sparse, Log(foreign="other/MatMul").text))
    assert certificate.model[Claim.MAPPING].answer is REFUTED


@pytest.mark.parametrize(
    ("log", "eligible", "chosen"),
    [
        (Log(kernel="", chosen=PRODUCTS), PROVED, PROVED),
        (Log(kernel="", chosen=3), PROVED, UNPROVEN),
        (Log(kernel=DENSE_KERNEL, chosen=0), PROVED, REFUTED),
        (Log(kernel=DENSE_KERNEL, found=0, chosen=0), REFUTED, REFUTED),
        (Log(kernel=DENSE_KERNEL, found=3, chosen=3), UNPROVEN, UNPROVEN),
        (Log(kernel="", found=None, chosen=None), UNPROVEN, UNPROVEN),
    ],
    ids=["all", "some", "none", "none eligible", "some eligible", "a silent log"],
)
def test_counts_of_sparse_kernels_decide_where_they_are_all_or_none(
    sparse: Artefact, log: Log, eligible: Answer, chosen: Answer
) -> None:
    certificate = certified(with_engine(sparse, log.text))
    assert answers(certificate, Claim.ELIGIBLE) == {eligible}
    assert answers(certificate, Claim.SPARSE) == {chosen}


def test_a_sparse_kernel_proves_its_own_modules_and_no_other(sparse: Artefact) -> None:
    log = Log(dense=(UP,), chosen=PRODUCTS - 1)
    certificate = certified(with_engine(sparse, log.text))
    assert cell(certificate, QUERY, Claim.SPARSE) == (PROVED, f"the kernel is {SPARSE_KERNEL}")
    assert cell(certificate, UP, Claim.SPARSE) == (
        UNPROVEN,
        f"{PRODUCTS - 1} of {PRODUCTS} layers run a sparse kernel, and this one's name, "
        f"{DENSE_KERNEL}, does not say so",
    )


def test_an_rtx_plan_is_no_witness_for_what_sparse_kernels_need(sparse: Artefact) -> None:
    artefact = with_engine(sparse, Log().text, library=("tensorrt_rtx", "1.7.1"))
    certificate = certified(artefact)
    for claim in (Claim.INT8_OUT, Claim.ELIGIBLE, Claim.SPARSE):
        assert answers(certificate, claim) == {UNPROVEN}
    assert answers(certificate, Claim.INT8_IN) == {PROVED}


def test_a_real_rtx_build_proves_int8_and_the_mapping(sparse: Artefact, rtx: Library) -> None:
    profile = ShapeProfile.parse("min=1x1,opt=8x32,max=16x64", position_limit=64)
    build(sparse, profiles=[profile], library=rtx, options=EngineOptions())
    certificate = certified(read_artefact(sparse.directory))
    assert certificate.engine == f"tensorrt_rtx {rtx.version}"
    for claim in (Claim.INT8_IN, Claim.FUSED):
        assert answers(certificate, claim) == {PROVED}
    for claim in (Claim.INT8_OUT, Claim.ELIGIBLE, Claim.SPARSE):
        assert answers(certificate, claim) == {UNPROVEN}
    assert {claim for claim, found in certificate.model.items() if found.answer is not PROVED} == {
        Claim.RUNS
    }


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


def with_fp16_graph(artefact: Artefact, edit: Callable[[LinearLayer], None]) -> Artefact:
    """The artefact with an FP16-mixed graph: model.onnx, its linears edited."""
    directory = artefact.directory
    model = ir.load(directory / "model.onnx")
    for layer in linear_layers(model.graph):
        edit(layer)
    ir.save(model, directory / FP16_MODEL)
    files = {**artefact.manifest.files, FP16_MODEL: file_record(directory / FP16_MODEL)}
    artefact.manifest.model_copy(update={"files": files}).write(directory)
    return read_artefact(directory)


def test_floats_in_half_precision_are_what_the_fp16_graph_is_for(sparse: Artefact) -> None:
    def halve(layer: LinearLayer) -> None:
        if not layer.weight.is_integer:
            half = layer.weight.stored.astype(np.float16)
            layer.weight.constant.const_value = ir.Tensor(half)

    certificate = certified(with_fp16_graph(sparse, halve))
    assert answers(certificate, Claim.PARITY) == {PROVED}
    assert cell(certificate, UP, Claim.STORED)[1].endswith(
        "in model.onnx, model.cpu.onnx, model.fp16.onnx"
    )
    assert certificate.model[Claim.SCALES].answer is PROVED


def test_a_fault_in_the_fp16_graph_alone_is_refuted(sparse: Artefact) -> None:
    def fill(layer: LinearLayer) -> None:
        if layer.module == UP:
            layer.weight.constant.const_value = ir.Tensor(np.full_like(layer.weight.stored, 3))

    certificate = certified(with_fp16_graph(sparse, fill))
    for claim in (Claim.STORED, Claim.PARITY):
        answer, why = cell(certificate, UP, claim)
        assert answer is REFUTED
        assert why.startswith("model.fp16.onnx: ")
        assert cell(certificate, QUERY, claim)[0] is PROVED


def test_a_shifted_zero_point_is_no_stored_pattern(sparse: Artefact) -> None:
    def shift(layer: LinearLayer) -> None:
        if layer.module == UP:
            point = layer.weight.path[-1].inputs[2]
            assert point is not None
            point.const_value = ir.Tensor(np.ones(layer.weight.shape[1], np.int8))

    certificate = certified(with_fp16_graph(sparse, shift))
    assert cell(certificate, UP, Claim.STORED) == (
        REFUTED,
        "model.fp16.onnx: the zero-point of the weight is not a constant 0",
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


def test_a_recipe_in_the_manifest_that_is_not_the_checkpoints_is_refused(sparse: Artefact) -> None:
    recipe = {**(sparse.manifest.recipe or {}), "placement": "linear"}
    sparse.manifest.model_copy(update={"recipe": recipe}).write(sparse.directory)
    with pytest.raises(ArtefactError) as caught:
        certified(read_artefact(sparse.directory))
    assert str(caught.value) == (
        f"{sparse.directory}: expected the recipe of the checkpoint in the manifest, "
        "found another one; export it again"
    )


def test_the_certificate_is_a_file_of_the_artefact_and_reads_back(sparse: Artefact) -> None:
    certificate = certified(with_engine(sparse, Log().text))
    artefact = read_artefact(sparse.directory)
    assert read_certificate(artefact) == certificate
    facts = json.loads((sparse.directory / "certificate.json").read_text())
    assert facts["schema"] == "nxmi-export/certificate/2"
    assert facts["totals"]["mask"] == {
        "proved": ENCODER_LINEARS,
        "refuted": 0,
        "unproven": 0,
        "not claimed": 0,
    }
    assert facts["files"].keys() == {
        *("model.onnx", "model.onnx.data", "model.cpu.onnx", "config.json"),
        *("model.plan", "build.log", "engine.json"),
    }
    assert facts["checkpoint"] == {
        "path": "../model.pt",
        "sha256": artefact.manifest.source.sha256,
    }


def stale(directory: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        read_certificate(read_artefact(directory))
    subject = (
        f"{directory / 'certificate.json'}: expected a certificate of the files as they are now"
    )
    message = str(caught.value)
    assert message.startswith(f"{subject}, found one ")
    assert message.endswith("; certify the artefact again")
    return message.removeprefix(f"{subject}, found one ").removesuffix(
        "; certify the artefact again"
    )


def test_a_good_certificate_does_not_go_with_other_weights(sparse: Artefact) -> None:
    certificate = certified(sparse)
    write_code(sparse, UP, (0, 0), 99)
    rebound(as_listed(sparse))
    digest = certificate.files["model.onnx.data"][:12]
    assert stale(sparse.directory) == (
        f"of model.onnx.data with SHA-256 {digest}…, which has changed"
    )


def test_an_engine_that_came_later_makes_the_certificate_stale(sparse: Artefact) -> None:
    certified(sparse)
    with_engine(read_artefact(sparse.directory), Log().text)
    assert stale(sparse.directory) == "that does not know build.log"


def test_an_engine_that_went_makes_the_certificate_stale(sparse: Artefact) -> None:
    certified(with_engine(sparse, Log().text))
    manifest = read_artefact(sparse.directory).manifest
    files = {name: each for name, each in manifest.files.items() if name != "model.plan"}
    manifest.model_copy(update={"files": files}).write(sparse.directory)
    assert stale(sparse.directory) == "of model.plan, which the artefact no longer has"


def test_another_checkpoint_makes_the_certificate_stale(sparse: Artefact) -> None:
    certificate = certified(sparse)
    path = sparse.directory.parent / "model.pt"
    path.write_bytes(b"another")
    assert certificate.checkpoint is not None
    digest = certificate.checkpoint.sha256[:12]
    found = f"of {sparse.directory / '../model.pt'} with SHA-256 {digest}…, which has changed"
    assert stale(sparse.directory) == found


def test_totals_that_were_edited_are_refused(sparse: Artefact) -> None:
    certified(sparse)
    path = sparse.directory / "certificate.json"
    facts = json.loads(path.read_text())
    facts["answer"] = "proved"
    path.write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match="found totals that are not those of its cells"):
        read_certificate(rebound(as_listed(sparse)))


def as_listed(artefact: Artefact) -> Artefact:
    """The artefact as its manifest has it, whatever became of the files."""
    return Artefact(artefact.directory, type(artefact.manifest).read(artefact.directory))


def test_an_artefact_without_a_certificate_says_so(sparse: Artefact) -> None:
    with pytest.raises(ArtefactError, match=r"expected an artefact with certificate\.json"):
        read_certificate(sparse)


def test_an_interruption_leaves_the_artefact_whole(
    sparse: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if target == sparse.directory / "certificate.json":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        certified(sparse)
    assert read_artefact(sparse.directory).manifest.files == sparse.manifest.files
    assert not (sparse.directory / "certificate.json").exists()
