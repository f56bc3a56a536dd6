"""Weights alone in 4 bits: model.int4.onnx, its engine, what is certified and what is shown."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from nxmi_export.__main__ import main
from nxmi_export.artefact import (
    INT4_MODEL,
    INT4_WEIGHTS,
    MODEL,
    WEIGHTS,
    Artefact,
    PackedRecord,
    read_artefact,
)
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.tensorrt_engine import (
    EngineOptions,
    Library,
    Precision,
    ShapeProfile,
    Verdict,
)
from nxmi_export.certificate import Answer, Claim
from nxmi_export.checkpoint import read_tokenizer_files, write_checkpoint
from nxmi_export.compression import checkpoint_of, compress, compressed_linears
from nxmi_export.errors import ArtefactError, UsageError
from nxmi_export.parity.weights import weight_parity
from nxmi_export.recipe import Placement, Recipe, Scheme, preset
from nxmi_export.report import inspection_table
from nxmi_export.workflow.build import build
from nxmi_export.workflow.certify import CertifyRequest, certify_artefact
from nxmi_export.workflow.export import ExportRequest, export
from nxmi_export.workflow.inspect import inspect
from nxmi_export.workflow.parity.records import record_mismatches
from passes.lint import Severity, lint
from tests.pipeline.exports import (
    ENCODER_LINEARS,
    ONNX_FILES,
    Exported,
    batch,
    external_tensors,
    stored_weights,
)
from tests.pipeline.parity_project import EXAMPLES, write_split
from tests.tiny_models import (
    compressed_model,
    tiny_model,
    tiny_tokenizer,
    toy_data,
    toy_dataset,
)

PROFILE = ShapeProfile.parse("min=1x8,opt=4x32,max=4x64", position_limit=64)
SIZES: dict[str, Any] = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 256}
RECIPE = Recipe(default=Scheme.parse("2:4+int4"), placement=Placement.WEIGHTS)


def written(path: Path, recipe: Recipe) -> PreTrainedModel:
    """Write model.pt of a tiny encoder under `recipe`."""
    model = compressed_model(recipe=recipe, **SIZES)
    checkpoint = checkpoint_of(
        model, recipe=recipe, tokenizer={"vocab.txt": b"[PAD]\n"}, provenance={}
    )
    write_checkpoint(path, checkpoint)
    return model


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("int4")
    model = written(folder / "model.pt", RECIPE)
    request = ExportRequest(str(folder / "model.pt"), folder / "model.artefact", int4_blocks=64)
    return Exported(model, folder / "model.pt", export(request))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A tiny encoder that the preset `w4` has trained for one epoch."""
    folder = tmp_path_factory.mktemp("w4")
    recipe = preset("w4")
    training = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=training)})
    model = tiny_model()
    compress(model, toy_data(), recipe)
    tiny_tokenizer().save_pretrained(folder)
    checkpoint = checkpoint_of(
        model, recipe=recipe, tokenizer=read_tokenizer_files(folder), provenance={}
    )
    write_checkpoint(folder / "model.pt", checkpoint)
    request = ExportRequest(str(folder / "model.pt"), folder / "model.artefact")
    return Exported(model, folder / "model.pt", export(request))


def logits(artefact: Artefact, name: str) -> NDArray[Any]:
    feeds = {key: value.numpy() for key, value in batch().items()}
    with OnnxRuntimeRunner(artefact.path(name), optimize=False, threads=1) as runner:
        return runner.run(feeds)["logits"]


def test_both_files_give_the_same_logits_bit_for_bit(packed: Exported) -> None:
    np.testing.assert_array_equal(
        logits(packed.artefact, INT4_MODEL), logits(packed.artefact, MODEL)
    )


def test_a_record_of_blocks_that_says_otherwise_is_a_mismatch(packed: Exported) -> None:
    manifest = packed.artefact.manifest
    assert list(record_mismatches(packed.artefact)) == []
    name, *_ = manifest.packed
    told = {
        "wrong": {name: manifest.packed[name].model_copy(update={"block": 32})},
        "invented": {"bert.pooler.dense": manifest.packed[name]},
    }
    for records in told.values():
        changed = manifest.model_copy(update={"packed": {**manifest.packed, **records}})
        artefact = dataclasses.replace(packed.artefact, manifest=changed)
        assert [each.module for each in record_mismatches(artefact)] == list(records)
    changed = manifest.model_copy(update={"packed": {}})
    missing = record_mismatches(dataclasses.replace(packed.artefact, manifest=changed))
    assert [each.module for each in missing] == sorted(manifest.packed)


@pytest.mark.parametrize("name", [MODEL, INT4_MODEL])
def test_every_code_and_scale_is_pytorchs(packed: Exported, name: str) -> None:
    found = weight_parity(packed.model, packed.artefact.path(name))
    assert (found.mismatches, found.patterned, found.quantizers) == ((), ENCODER_LINEARS, 0)


def test_only_codes_and_scales_are_stored_anew(packed: Exported) -> None:
    own = external_tensors(packed.artefact.path(INT4_MODEL))
    other = external_tensors(packed.artefact.path(MODEL))
    shared = {name for name, (file, _, _) in own.items() if file == WEIGHTS}
    assert {name: own[name] for name in shared} == {name: other[name] for name in shared}
    assert len(own) - len(shared) == 2 * ENCODER_LINEARS
    size = sum(each.bytes for each in packed.artefact.manifest.packed.values())
    assert packed.artefact.manifest.files[INT4_WEIGHTS].bytes == size


def test_inspect_lists_the_blocks(packed: Exported) -> None:
    found = inspect(str(packed.directory))
    assert found.packed.keys() == found.linears.keys() - {
        name for name, each in found.linears.items() if each.scheme == "dense"
    }
    up = "bert.encoder.layer.0.intermediate.dense"
    # two codes to a byte; two blocks of 64 inputs, each a float32 for all 256 outputs
    assert packed.artefact.manifest.packed[up] == PackedRecord(
        block=64, bytes=128 * 256 // 2 + 2 * 256 * 4
    )
    caption = str(inspection_table(found.as_json()).caption)
    assert caption == "model.int4.onnx: 12 linears as int4 in blocks of 64, 0.147 MB with scales"


def test_the_linter_degrades_nothing_in_it(packed: Exported) -> None:
    findings = lint(ir.load(packed.artefact.path(INT4_MODEL)), sequence=64)
    assert [each for each in findings if each.severity is not Severity.NOTE] == []


def test_an_engine_holds_the_codes_and_no_int8_product_is_promised(
    packed: Exported, rtx: Library, tmp_path: Path
) -> None:
    artefact = read_artefact(shutil.copytree(packed.directory, tmp_path / "copy"))
    options = EngineOptions(compute_capabilities=("sm86",))
    sizes = {}
    for precision in (Precision.FP32, Precision.INT4):
        report = build(
            read_artefact(artefact.directory),
            profiles=[PROFILE],
            library=rtx,
            options=options,
            precision=precision,
        )
        sizes[precision] = report.result.size_bytes
    assert report.graph.name == INT4_MODEL
    # A byte holds two codes, and the scales of blocks take an eighth of what that saves.
    records = artefact.manifest.linears
    codes = sum(records[name].inputs * records[name].outputs for name in artefact.manifest.packed)
    assert sizes[Precision.INT4] < sizes[Precision.FP32] - codes // 4
    assert report.coverage.verdict is not Verdict.REFUTED
    assert report.coverage.linears == ()
    # Nothing is promised of its engine, so that nothing of it is unproven.
    assert (report.int8.told, report.sparse_kernels.told) == ("not claimed", "not claimed")
    assert report.proved
    products = [
        layer
        for layer in report.result.layers
        if any(operand.datatype == "Int4" for operand in layer.constants)
    ]
    assert products
    assert all("Fc" in layer.name or "Gemm" in layer.name for layer in products)
    certificate = certify_artefact(
        CertifyRequest(read_artefact(artefact.directory), checkpoint=str(packed.checkpoint))
    )
    for linear in certificate.linears:
        assert linear.claims[Claim.STORED].answer is Answer.PROVED
        assert INT4_MODEL in linear.claims[Claim.STORED].why
        assert linear.claims[Claim.PARITY].answer is Answer.PROVED
        for claim in (Claim.INT8_IN, Claim.INT8_OUT, Claim.ELIGIBLE, Claim.SPARSE):
            assert linear.claims[claim].answer is Answer.NOT_CLAIMED
    for claim in (Claim.SCALES, Claim.NO_FLOAT, Claim.MERGED_QKV):
        assert certificate.model[claim].answer is Answer.NOT_CLAIMED
    assert certificate.model[Claim.NO_FLOAT].why == "the recipe quantizes weights alone"
    assert certificate.model[Claim.LINT].answer is Answer.PROVED


@pytest.mark.parametrize("placement", [Placement.LINEAR, Placement.SPARSE])
def test_a_model_whose_activations_are_rounded_too_is_refused_at_once(
    placement: Placement, tmp_path: Path
) -> None:
    written(tmp_path / "model.pt", Recipe(default=Scheme.parse("int4"), placement=placement))
    request = ExportRequest(str(tmp_path / "model.pt"), tmp_path / "out", int4_blocks=64)
    with pytest.raises(UsageError) as error:
        export(request)
    assert str(error.value) == (
        "--int4-blocks 64: expected a model of placement weights, whose products are of floats, "
        f"found placement {placement}; leave the option out, or compress the model to int4 with "
        "placement: weights"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_model_without_4_bit_weights_has_nothing_to_pack(tmp_path: Path) -> None:
    written(
        tmp_path / "model.pt", Recipe(default=Scheme.parse("int8"), placement=Placement.WEIGHTS)
    )
    request = ExportRequest(str(tmp_path / "model.pt"), tmp_path / "out", int4_blocks=64)
    with pytest.raises(UsageError) as error:
        export(request)
    assert str(error.value) == (
        "--int4-blocks 64: expected linears with an int4 scheme, found int8; leave the option "
        "out, or compress the model to int4 with placement: weights"
    )


def test_an_artefact_without_it_says_how_to_get_it(
    packed: Exported, rtx: Library, tmp_path: Path
) -> None:
    bare = packed.artefact.manifest.model_copy(
        update={
            "files": {
                name: each
                for name, each in packed.artefact.manifest.files.items()
                if name not in {INT4_MODEL, INT4_WEIGHTS}
            }
        }
    )
    with pytest.raises(ArtefactError) as error:
        build(
            Artefact(tmp_path, bare),
            profiles=[PROFILE],
            library=rtx,
            options=EngineOptions(),
            precision=Precision.INT4,
        )
    assert str(error.value) == (
        f"{tmp_path}: expected model.int4.onnx, which packs weights in INT4 blocks, found "
        "model.cpu.onnx, model.onnx; export the model again with --int4-blocks 64"
    )


def test_trained_steps_are_stored_beside_codes_of_4_bits(trained: Exported) -> None:
    stored = stored_weights(trained.artefact.path(MODEL))
    linears = compressed_linears(trained.model)
    assert len(linears) == ENCODER_LINEARS
    for name, linear in linears.items():
        codes, _ = stored[name]  # (in, out), as int8, which engines multiply
        assert (codes.dtype, np.abs(codes).max()) == (np.int8, 7)
        assert (codes.reshape(-1, 4, linear.out_features) != 0).sum(axis=1).max() == 2
        quantizer = linear.weight_quantizer
        assert quantizer is not None
        fitted = copy.deepcopy(quantizer)
        fitted.release()
        fitted.refit(linear.weight)  # as every step that is not learned follows its weight
        assert not torch.isclose(fitted.scale, quantizer.scale, rtol=1e-6).all()


def test_a_trained_model_passes_the_gate(trained: Exported, tmp_path: Path) -> None:
    write_split(tmp_path, toy_dataset(EXAMPLES), "validation")
    report = tmp_path / "parity.json"
    task = ("--task", "sst2", "--data", str(tmp_path))
    assert main(["parity", str(trained.directory), *task, "-o", str(report)]) == 0
    document = json.loads(report.read_text())
    (split,) = document["splits"]
    assert (document["ok"], split["failures"]) == (True, [])
    for name in ONNX_FILES:
        found = split["weights"][name]
        assert (found["equal"], found["patterned"]) == (True, ENCODER_LINEARS)
