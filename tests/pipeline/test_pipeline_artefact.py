"""What lies in an exported directory: files, hashes, stored integers, one copy of the weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import passes
from nxmi_export.artefact import read_artefact, sha256_of
from nxmi_export.capture import capture
from nxmi_export.compression import compressed_linears
from nxmi_export.errors import ArtefactError, LoweringFailed
from nxmi_export.lowering import lower, onnxruntime_passes, tensorrt_passes
from nxmi_export.recipe import Placement
from tests.pipeline.exports import (
    ENCODER_LINEARS,
    ONNX_FILES,
    Exported,
    arrays,
    export_compressed,
    external_tensors,
    load,
    produced_by,
    stored_weights,
)

ROOT = Path(__file__).resolve().parents[2]


def test_both_onnx_files_are_valid_standard_onnx(exported: Exported) -> None:
    for name in ONNX_FILES:
        onnx.checker.check_model(exported.directory / name, full_check=True)
        model = load(exported.directory / name)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
        assert {node.domain for node in model.graph.node} == {""}
        assert not model.functions


def test_inputs_and_outputs_keep_a_dynamic_batch_and_sequence(exported: Exported) -> None:
    for name in ONNX_FILES:
        graph = load(exported.directory / name).graph
        names = tuple(each.name for each in graph.input)
        assert names == exported.artefact.manifest.input_names
        for each in graph.input:
            assert [bool(axis.dim_param) for axis in each.type.tensor_type.shape.dim] == [True] * 2
        assert [each.name for each in graph.output] == ["logits"]


def test_stored_integers_are_the_codes_of_the_pytorch_model(exported: Exported) -> None:
    linears = compressed_linears(exported.model)
    for name in ONNX_FILES:
        stored = stored_weights(exported.directory / name)
        assert stored.keys() == linears.keys()
        assert len(stored) == ENCODER_LINEARS
        for module, (codes, zero_point) in stored.items():
            assert codes.dtype == np.int8
            np.testing.assert_array_equal(codes, linears[module].codes().numpy().T)
            assert zero_point is None or not zero_point.any()


def test_stored_integers_are_two_to_four_along_the_reduction_axis(exported: Exported) -> None:
    for codes, _ in stored_weights(exported.directory / "model.onnx").values():
        inputs, outputs = codes.shape
        non_zeros = (codes.reshape(inputs // 4, 4, outputs) != 0).sum(axis=1)
        assert non_zeros.max() == 2


def test_every_zero_point_of_the_tensorrt_file_is_zero(exported: Exported) -> None:
    path = exported.directory / "model.onnx"
    values = arrays(path)
    quantizers = [
        node
        for node in load(path).graph.node
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}
    ]
    assert quantizers
    for node in quantizers:
        assert values[node.input[2]].dtype == np.int8
        assert not values[node.input[2]].any()


def test_activations_of_the_cpu_file_are_uint8_around_128(exported: Exported) -> None:
    path = exported.directory / "model.cpu.onnx"
    values = arrays(path)
    quantize = [node for node in load(path).graph.node if node.op_type == "QuantizeLinear"]
    assert quantize
    for node in quantize:
        zero_point = values[node.input[2]]
        assert (str(zero_point.dtype), int(zero_point)) == ("uint8", 128)


def test_no_product_of_the_cpu_file_multiplies_int8_activations(exported: Exported) -> None:
    path = exported.directory / "model.cpu.onnx"
    model, values = load(path), arrays(path)
    producer = produced_by(model)
    quantized = 0
    for node in model.graph.node:
        if node.op_type != "MatMul":
            continue
        kinds = [_code_type(name, producer, values) for name in node.input]
        assert kinds in (
            [np.dtype(np.uint8), np.dtype(np.int8)],  # a linear
            [np.dtype(np.uint8), np.dtype(np.uint8)],  # INT8 attention
            [None, None],  # float attention
        )
        quantized += kinds != [None, None]
    assert quantized == ENCODER_LINEARS + 2 * exported.quantized_attentions


def test_both_files_refer_to_the_same_bytes_of_one_weight_file(exported: Exported) -> None:
    own, cpu = (external_tensors(exported.directory / name) for name in ONNX_FILES)
    assert {location for location, _, _ in own.values()} == {"model.onnx.data"}
    # Values are named after what they are; the place in the file is what must not differ.
    assert sorted(own.values()) == sorted(cpu.values())
    codes = sum(
        codes.nbytes for codes, _ in stored_weights(exported.directory / "model.onnx").values()
    )
    assert codes < (exported.directory / "model.onnx.data").stat().st_size < 2 * codes


def test_no_weight_is_stored_inside_an_onnx_file(exported: Exported) -> None:
    for name in ONNX_FILES:
        inline = [
            tensor
            for tensor in load(exported.directory / name).graph.initializer
            if not tensor.external_data
        ]
        assert max(onnx.numpy_helper.to_array(tensor).nbytes for tensor in inline) <= 256


def test_the_manifest_lists_exactly_the_files_of_the_directory(exported: Exported) -> None:
    listed = {"manifest.json", *exported.artefact.manifest.files}
    assert listed == {path.name for path in exported.directory.iterdir()}
    assert listed == {*ONNX_FILES, "model.onnx.data", "manifest.json", "config.json", "vocab.txt"}
    for name, record in exported.artefact.manifest.files.items():
        path = exported.directory / name
        assert (record.sha256, record.bytes) == (sha256_of(path), path.stat().st_size)


def test_the_manifest_says_how_every_linear_is_stored(exported: Exported) -> None:
    records = exported.artefact.manifest.linears
    linears = compressed_linears(exported.model)
    assert records.keys() == {*linears, "bert.pooler.dense", "classifier"}
    for name, linear in linears.items():
        record = records[name]
        assert (record.storage, record.inputs, record.outputs) == (
            "2:4+int8",
            linear.in_features,
            linear.out_features,
        )
        assert record.zeros == pytest.approx(float((linear.codes() == 0).float().mean()))
        assert record.zeros >= 0.5
    assert records["classifier"].storage == "dense"


def test_the_manifest_leads_back_to_the_checkpoint(exported: Exported) -> None:
    assert exported.artefact.source() == exported.checkpoint.resolve()
    assert exported.artefact.manifest.source.sha256 == sha256_of(exported.checkpoint)


def test_the_ledgers_account_for_every_weight(exported: Exported) -> None:
    ledgers = exported.artefact.manifest.ledgers
    assert ledgers.keys() == {"tensorrt", "onnxruntime"}
    text = json.dumps(ledgers["tensorrt"])
    assert all(module in text for module in compressed_linears(exported.model))


def test_nothing_in_the_onnx_files_tells_of_the_machine(exported: Exported) -> None:
    for name in ONNX_FILES:
        content = (exported.directory / name).read_bytes()
        for trace in (str(ROOT), "site-packages", "stack_trace", "transformers/models"):
            assert trace.encode() not in content


def test_two_exports_are_the_same_bytes(
    export_of: Callable[[Placement], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = export_of(Placement.SPARSE)
    monkeypatch.setattr("nxmi_export.workflow.export.capture", capture)  # tests/traced_once.py
    second = export_compressed(tmp_path, Placement.SPARSE)
    assert first.artefact.manifest.files == second.artefact.manifest.files
    a, b = (each.artefact.manifest.model_dump(exclude={"created"}) for each in (first, second))
    assert a == b


def test_a_changed_file_is_refused(sparse_copy: Any) -> None:
    path = sparse_copy.directory / "model.onnx.data"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError) as refusal:
        read_artefact(sparse_copy.directory)
    expected = sparse_copy.manifest.files["model.onnx.data"].sha256[:12]
    assert str(refusal.value) == (
        f"{path}: expected the file with SHA-256 {expected}…, found other contents; "
        "export the model again, or restore the file"
    )


def test_a_missing_file_is_refused(sparse_copy: Any) -> None:
    path = sparse_copy.directory / "model.cpu.onnx"
    path.unlink()
    with pytest.raises(ArtefactError) as refusal:
        read_artefact(sparse_copy.directory)
    assert str(refusal.value) == (
        f"{path}: expected every file of the manifest, found no such file; export the model again"
    )


def test_a_file_that_the_artefact_does_not_have_is_refused(sparse_copy: Any) -> None:
    with pytest.raises(ArtefactError) as refusal:
        sparse_copy.path("model.plan")
    assert str(refusal.value) == (
        f"{sparse_copy.directory}: expected an artefact with model.plan, "
        "found config.json, model.cpu.onnx, model.onnx, model.onnx.data, vocab.txt; "
        "export the model again, or build the engine first"
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"{}", "created: Field required"),
        (b"\xff\xfe", "the file: Invalid JSON: expected value at line 1 column 1"),
        (b"[", "the file: Invalid JSON: EOF while parsing a list at line 1 column 1"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ArtefactError) as refusal:
        read_artefact(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path / 'manifest.json'}: expected a manifest that this version reads, "
        f"found {found}; export the model again"
    )


def test_the_manifest_of_another_format_is_refused(sparse_copy: Any) -> None:
    path = sparse_copy.directory / "manifest.json"
    path.write_text(path.read_text().replace("artefact/1", "artefact/2"))
    with pytest.raises(ArtefactError) as refusal:
        read_artefact(sparse_copy.directory)
    assert str(refusal.value) == (
        f"{path}: expected a manifest that this version reads, "
        "found format: Input should be 'nxmi-export/artefact/1'; export the model again"
    )


def test_lowering_a_dense_weight_as_sparse_fails_with_the_reason_of_the_pass(
    export_of: Callable[[Placement], Exported],
) -> None:
    model = ir.load(export_of(Placement.LINEAR).directory / "model.onnx")
    with pytest.raises(LoweringFailed) as failure:
        lower(model, tensorrt_passes({"classifier": (1, 4)}))
    assert isinstance(failure.value.__cause__, passes.PassError)
    assert "classifier" in str(failure.value)
    assert failure.value.exit_code == 4


def test_lowering_for_onnxruntime_twice_changes_nothing(
    export_of: Callable[[Placement], Exported],
) -> None:
    exported = export_of(Placement.LINEAR)
    patterns = dict.fromkeys(compressed_linears(exported.model), (2, 4))
    model = ir.load(exported.directory / "model.cpu.onnx")
    again = lower(model, onnxruntime_passes(patterns), check_each=True)
    assert again.ledger.changes == 0


def _code_type(
    name: str, producer: dict[str, onnx.NodeProto], values: dict[str, Any]
) -> np.dtype[Any] | None:
    """The type of the codes that a product reads, None for floats; heads are split in between."""
    node = producer.get(name)
    while node is not None and node.op_type in {"Reshape", "Transpose"}:
        node = producer.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear":
        return None
    dtype: np.dtype[Any] = values[node.input[2]].dtype
    return dtype
