"""model.fp16.onnx: what it shares with model.onnx, what an engine makes of it, and its parity."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from nxmi_export.__main__ import main
from nxmi_export.artefact import (
    FP16_MODEL,
    FP16_WEIGHTS,
    MODEL,
    WEIGHTS,
    Artefact,
    read_artefact,
)
from nxmi_export.backends.tensorrt_engine import (
    EngineOptions,
    Library,
    Precision,
    ShapeProfile,
    Verdict,
    build_engine,
    int8_coverage,
)
from nxmi_export.backends.tensorrt_engine.int8_layers import is_fused_attention
from nxmi_export.compression import compressed_linears
from nxmi_export.errors import ArtefactError
from nxmi_export.glue import task_named
from nxmi_export.lowering import lower, tensorrt_fp16_passes
from nxmi_export.recipe import Placement
from nxmi_export.workflow.build import QuantizedModules, build
from nxmi_export.workflow.export import ExportRequest, export
from nxmi_export.workflow.inspect import inspect
from passes.lint import lint
from samples.fp16_drift import drift
from tests.pipeline.exports import (
    ENCODER_LINEARS,
    LAYERS,
    Exported,
    arrays,
    external_tensors,
    load,
    stored_weights,
)
from tests.pipeline.parity_project import EXAMPLES, sst2_project

PROFILE = ShapeProfile.parse("min=1x1,opt=8x32,max=16x64", position_limit=64)
QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}


@pytest.fixture(scope="module")
def float16(
    export_of: Callable[[Placement], Exported], tmp_path_factory: pytest.TempPathFactory
) -> Artefact:
    """The linear placement, which has most in float16: tables, residuals and attention."""
    checkpoint = export_of(Placement.LINEAR).checkpoint
    output = tmp_path_factory.mktemp("float16") / "model.artefact"
    return export(ExportRequest(str(checkpoint), output, fp16=True))


@pytest.fixture
def lowered(exported: Exported, tmp_path: Path) -> Path:
    """Every placement in turn, lowered from the `model.onnx` of its artefact."""
    model = ir.load(exported.directory / MODEL)
    ir.external_data.load_to_model(model)
    patterns = dict.fromkeys(compressed_linears(exported.model), (2, 4))
    lower(model, tensorrt_fp16_passes(patterns), check_each=True)
    path = tmp_path / FP16_MODEL
    ir.save(model, path)
    return path


def quantizer_numbers(path: Path) -> dict[str, list[bytes]]:
    """Scale, zero-point and stored codes of every quantizer, by node name."""
    values = arrays(path)
    return {
        node.name: [values[name].tobytes() for name in node.input if name in values]
        for node in load(path).graph.node
        if node.op_type in QUANTIZERS
    }


def test_integers_and_scales_are_those_of_model_onnx_bit_for_bit(float16: Artefact) -> None:
    numbers = quantizer_numbers(float16.path(FP16_MODEL))
    assert numbers == quantizer_numbers(float16.path(MODEL))
    assert len(numbers) > 2 * ENCODER_LINEARS
    own, other = (stored_weights(float16.path(name)) for name in (FP16_MODEL, MODEL))
    assert own.keys() == other.keys()
    assert all((own[module][0] == other[module][0]).all() for module in own)


def test_stored_integers_are_the_same_bytes_and_only_float16_is_stored_anew(
    float16: Artefact,
) -> None:
    own = external_tensors(float16.path(FP16_MODEL))
    shared = {place for place in own.values() if place[0] == WEIGHTS}
    assert shared <= set(external_tensors(float16.path(MODEL)).values())
    assert {place[0] for place in own.values()} == {WEIGHTS, FP16_WEIGHTS}
    values = arrays(float16.path(FP16_MODEL))
    assert {values[name].dtype.name for name, place in own.items() if place[0] == FP16_WEIGHTS} == {
        "float16"
    }
    assert not [name for name, value in values.items() if value.nbytes > 256 and name not in own]


def test_the_interface_is_that_of_model_onnx(float16: Artefact) -> None:
    onnx.checker.check_model(float16.path(FP16_MODEL), full_check=True)
    graphs = [load(float16.path(name)).graph for name in (MODEL, FP16_MODEL)]
    assert graphs[0].input == graphs[1].input
    assert graphs[0].output == graphs[1].output


def test_the_manifest_binds_the_files_and_has_the_ledger(float16: Artefact) -> None:
    manifest = float16.manifest
    assert {FP16_MODEL, FP16_WEIGHTS} <= manifest.files.keys()
    assert list(manifest.ledgers) == ["tensorrt", "tensorrt_fp16", "onnxruntime"]
    passes = [record["pass"] for record in manifest.ledgers["tensorrt_fp16"]]
    assert passes == ["CertifySparsity", "Float16OutsideIslands", "NameNodes"]


def test_inspect_tells_of_it(float16: Artefact, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspect(str(float16.directory)).float16
    assert found is not None
    # Three tables, two residual additions a layer, and twelve nodes of attention.
    assert found.nodes == 3 + LAYERS * (2 + 12)
    assert found.kept == {"bert.pooler": "stays float32: it leads to a graph output"}
    assert main(["inspect", str(float16.directory)]) == 0
    assert f"model.fp16.onnx: {found.nodes} nodes in float16" in capsys.readouterr().out


def test_an_export_without_the_option_has_no_float16(exported: Exported) -> None:
    assert not {FP16_MODEL, FP16_WEIGHTS} & exported.artefact.manifest.files.keys()
    assert inspect(str(exported.directory)).float16 is None


def test_the_linter_finds_nothing_new(exported: Exported, lowered: Path) -> None:
    before, after = (
        {finding.rule for finding in lint(ir.load(path))}
        for path in (exported.directory / MODEL, lowered)
    )
    assert after <= before
    assert "float-attention" not in after
    assert ("float-attention" in before) is (exported.quantized_attentions == 0)


def test_the_engine_keeps_int8_and_fuses_every_attention(
    exported: Exported, lowered: Path, rtx: Library
) -> None:
    result = build_engine(
        lowered,
        lowered.with_name("model.plan"),
        profiles=[PROFILE],
        library=rtx,
        options=EngineOptions(compute_capabilities=("sm86",)),
    )
    modules = QuantizedModules.of(ir.load(lowered))
    coverage = int8_coverage(
        result.layers,
        modules.products,
        linears=modules.linears,
        attentions=modules.attentions,
    )
    assert coverage.verdict is Verdict.PROVED
    assert coverage.int8_linears == len(coverage.linears) == ENCODER_LINEARS
    assert coverage.int8_attentions == len(coverage.attentions) == exported.quantized_attentions
    # Query, key and value of a layer are one product: six linears in four.
    assert len({line for each in coverage.linears for line in each.lines}) == 4 * LAYERS
    # Also float attention, which in float32 runs in pieces.
    assert sum(map(is_fused_attention, result.layers)) == LAYERS
    # What a norm leaves for a residual addition is stored in float16; `sparse` stores codes only.
    norms = [each for each in result.layers if "Mean" in each.name and "Roun" in each.name]
    stored = {operand.datatype for each in norms for operand in each.outputs}
    placement = exported.artefact.manifest.recipe["placement"]  # type: ignore[index]
    assert norms
    # The last norm feeds the head, which stays float32.
    assert stored - {"Float"} == ({"Int8"} if placement == Placement.SPARSE else {"Half", "Int8"})


def test_build_takes_it_where_it_is_asked_to(
    float16: Artefact, rtx: Library, tmp_path: Path
) -> None:
    artefact = read_artefact(shutil.copytree(float16.directory, tmp_path / "copy"))
    options = EngineOptions(compute_capabilities=("sm86",))
    report = build(
        artefact, profiles=[PROFILE], library=rtx, options=options, precision=Precision.FP16
    )
    facts = json.loads((artefact.directory / "engine.json").read_text())
    assert report.graph.name == facts["graph"]["name"] == FP16_MODEL
    assert "_gemm_mha" in (artefact.directory / "build.log").read_text()


def test_an_artefact_without_it_says_how_to_get_it(exported: Exported) -> None:
    with pytest.raises(ArtefactError) as refusal:
        exported.artefact.path(FP16_MODEL)
    assert str(refusal.value).endswith(
        "export the model again with --fp16, or build the engine first"
    )


def test_parity_runs_and_judges_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = sst2_project(tmp_path)
    request = ExportRequest(
        str(project.folder / "model.pt"), project.artefact, overwrite=True, fp16=True
    )
    export(request)
    data = ("--task", "sst2", "--data", str(project.data), "--drift")
    main(["parity", str(project.artefact), *data])
    assert "model.fp16.onnx, unoptimized" in capsys.readouterr().out
    (split,) = json.loads((project.artefact / "parity-sst2.json").read_text())["splits"]
    assert split["weights"][FP16_MODEL]["equal"] is True
    (step,) = (each for each in split["steps"] if each["candidate"] == "float16")
    assert (step["reference"], step["comparison"]["examples"]) == ("written", EXAMPLES)
    assert step["comparison"]["different"] > 0
    # By 2⁻¹¹ of a value, which would be beyond the rounding of float32.
    assert split["drift"]["float16"]["explained"] is True
    assert step["comparison"]["largest_logit_gap"] < 1
    told = drift(read_artefact(project.artefact), task_named("sst2"), project.data, None)
    (of_sample,) = told["splits"].values()
    assert of_sample["largest_logit_gap"] == step["comparison"]["largest_logit_gap"]
    assert 0 < of_sample["rms_logit_gap"] < of_sample["largest_logit_gap"]
    (check,) = (each for each in split["checks"] if each["name"] == "float16 file")
    assert check["ok"] is (len(step["comparison"]["changes"]) == 0)
