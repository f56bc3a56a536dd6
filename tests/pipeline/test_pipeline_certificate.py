"""Certificates of exported models: everything proved, and every planted fault found where it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from nxmi_export.artefact import FP16_MODEL, Artefact, file_record, read_artefact
from nxmi_export.backends.tensorrt_engine import EngineOptions, Library, ShapeProfile
from nxmi_export.certificate import Answer, Claim
from nxmi_export.recipe import Placement
from nxmi_export.workflow.build import build
from passes.linear_layers import LinearLayer, linear_layers
from tests.pipeline.certified_artefacts import (
    ATTENTION,
    NOT_CLAIMED,
    OF_ENGINE,
    OF_FILES,
    PROVED,
    QUERY,
    REFUTED,
    UNPROVEN,
    UP,
    answers,
    cell,
    certified,
    code_at,
    copied,
    rebound,
    write_code,
)
from tests.pipeline.engine_files import (
    DENSE_KERNEL,
    PRODUCTS,
    SPARSE_KERNEL,
    Log,
    with_engine,
)
from tests.pipeline.exports import ENCODER_LINEARS, LAYERS, Exported


@pytest.fixture
def sparse(export_of: Callable[[Placement], Exported], tmp_path: Path) -> Artefact:
    return copied(export_of(Placement.SPARSE), tmp_path)


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
        "found nothing at this path, seen from the artefact; pass its new place with --checkpoint"
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
        "and 4 values in float that the recipe does not promise in INT8"
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
