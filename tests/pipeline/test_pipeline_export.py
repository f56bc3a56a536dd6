"""Other things to export, and an output that appears whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from nxmi_export.artefact import Artefact, read_artefact, sha256_of
from nxmi_export.errors import ArtefactError, DatasetNotFound, NxmiError
from nxmi_export.glue import task_named
from nxmi_export.recipe import Placement
from nxmi_export.workflow.export import ExportRequest, export
from nxmi_export.workflow.parity import ParityRequest, check_parity
from tests.pipeline.exports import (
    ENCODER_LINEARS,
    LAYERS,
    ONNX_FILES,
    SIZES,
    Exported,
    arrays,
    batch,
    external_tensors,
    load,
)
from tests.pipeline.test_pipeline_logits import NOISE, logits
from tests.tiny_models import logits_of, tiny_model, write_hugging_face

STAGES = (
    "reading the checkpoint",
    "capturing the graph",
    "lowering for TensorRT",
    "lowering for onnxruntime",
    "writing the manifest",
)


@pytest.fixture(scope="session")
def dense_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    return write_hugging_face(folder / "model", tiny_model(**SIZES))


@pytest.fixture(scope="session")
def dense_export(dense_directory: Path) -> tuple[Path, list[str]]:
    """The artefact, and the stages that its export announced."""
    output, stages = dense_directory.parent / "artefact", list[str]()
    export(ExportRequest(str(dense_directory), output), on_stage=stages.append)
    return output, stages


@pytest.fixture
def dense_artefact(dense_export: tuple[Path, list[str]]) -> Path:
    return dense_export[0]


def test_a_dense_model_keeps_its_float_weights(dense_artefact: Path) -> None:
    manifest = read_artefact(dense_artefact).manifest
    assert manifest.recipe is None
    assert len(manifest.linears) == ENCODER_LINEARS + 2
    assert {(each.storage, each.zeros) for each in manifest.linears.values()} == {("dense", 0.0)}
    for name in ONNX_FILES:
        onnx.checker.check_model(dense_artefact / name, full_check=True)
        operators = {node.op_type for node in load(dense_artefact / name).graph.node}
        assert not operators & {"QuantizeLinear", "DequantizeLinear"}
    own, cpu = (external_tensors(dense_artefact / name) for name in ONNX_FILES)
    assert sorted(own.values()) == sorted(cpu.values())


@pytest.mark.parametrize("name", ONNX_FILES)
def test_a_dense_model_gives_the_logits_of_the_pytorch_model(
    dense_artefact: Path, name: str
) -> None:
    expected = logits_of(tiny_model(**SIZES), batch()).numpy()
    np.testing.assert_allclose(logits(dense_artefact / name), expected, rtol=0, atol=NOISE)


def test_a_dense_directory_is_named_in_the_manifest_with_one_hash(
    dense_directory: Path, dense_artefact: Path
) -> None:
    artefact = read_artefact(dense_artefact)
    assert artefact.source() == dense_directory.resolve()
    lines = [
        f"{sha256_of(dense_directory / name)}  {name}\n"
        for name in ("config.json", "model.safetensors")
    ]
    assert artefact.manifest.source.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert {"tokenizer.json", "tokenizer_config.json"} <= artefact.manifest.files.keys()


def test_a_state_dict_takes_its_configuration_from_base(
    dense_directory: Path, dense_artefact: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(tiny_model(**SIZES).state_dict(), weights)
    request = ExportRequest(str(weights), tmp_path / "artefact", base=str(dense_directory))
    artefact = export(request)
    assert artefact.manifest.source.base == os.path.relpath(dense_directory, artefact.directory)
    assert artefact.base() == dense_directory.resolve()
    assert artefact.source() == weights
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json"):
        assert (artefact.directory / name).read_bytes() == (dense_artefact / name).read_bytes()


def test_a_base_is_found_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    write_hugging_face(project / "base", tiny_model(**SIZES))
    torch.save(tiny_model(**SIZES).state_dict(), project / "weights.pt")
    monkeypatch.chdir(project)
    artefact = export(ExportRequest("weights.pt", Path("out/artefact"), base="base"))
    assert artefact.manifest.source.base == "../../base"

    monkeypatch.chdir(tmp_path)
    assert read_artefact(project / "out" / "artefact").base() == project / "base"
    moved = project.rename(tmp_path / "elsewhere")
    artefact = read_artefact(moved / "out" / "artefact")
    assert artefact.base() == moved / "base"
    assert artefact.source() == moved / "weights.pt"

    shutil.rmtree(moved / "base")
    with pytest.raises(ArtefactError) as refusal:
        artefact.base()
    assert str(refusal.value) == (
        f"{artefact.directory}/../../base: expected the directory that --base named at the export, "
        "found nothing at this path; put it back, or export the model again"
    )


def test_a_base_on_the_hub_stays_a_name(sparse_copy: Artefact) -> None:
    assert sparse_copy.base() is None
    source = sparse_copy.manifest.source.model_copy(update={"base": "nobody/nothing"})
    manifest = sparse_copy.manifest.model_copy(update={"source": source})
    assert replace(sparse_copy, manifest=manifest).base() == "nobody/nothing"


@pytest.mark.parametrize("changed", ["config.json", "model.safetensors"])
def test_parity_refuses_a_directory_that_is_not_the_exported_one(
    dense_directory: Path, dense_artefact: Path, tmp_path: Path, changed: str
) -> None:
    copy = Path(shutil.copytree(dense_directory, tmp_path / "copy"))
    with (copy / changed).open("ab") as file:
        file.write(b"\n")
    artefact = read_artefact(dense_artefact)
    sha256 = artefact.manifest.source.sha256
    assert sha256 is not None
    request = ParityRequest(task_named("sst2"), tmp_path, checkpoint=str(copy))
    with pytest.raises(ArtefactError) as refusal:
        check_parity(artefact, request, on_progress=lambda what, done, total: None)
    assert str(refusal.value) == (
        f"{copy}: expected the checkpoint with SHA-256 {sha256[:12]}… "
        "that was exported, found other contents; "
        "export it again, or pass the original with --checkpoint"
    )


def test_parity_refuses_a_checkpoint_that_is_gone(dense_artefact: Path, tmp_path: Path) -> None:
    request = ParityRequest(task_named("sst2"), tmp_path, checkpoint=str(tmp_path / "gone"))
    with pytest.raises(ArtefactError) as refusal:
        check_parity(
            read_artefact(dense_artefact), request, on_progress=lambda what, done, total: None
        )
    assert str(refusal.value) == (
        f"{tmp_path / 'gone'}: expected the checkpoint that the artefact was exported from, "
        "found nothing at this path; pass its new place with --checkpoint"
    )


def test_parity_accepts_a_copy_of_the_directory(
    dense_directory: Path, dense_artefact: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(dense_directory, tmp_path / "copy")
    request = ParityRequest(task_named("sst2"), tmp_path / "no data", checkpoint=str(copy))
    # The data is what is looked for next.
    with pytest.raises(DatasetNotFound):
        check_parity(
            read_artefact(dense_artefact), request, on_progress=lambda what, done, total: None
        )


def test_the_stages_are_announced_in_order(dense_export: tuple[Path, list[str]]) -> None:
    assert tuple(dense_export[1]) == STAGES


@pytest.mark.parametrize("stage", [STAGES[0], STAGES[-1]])
def test_an_interrupted_export_leaves_what_was_there(
    export_of: Callable[[Placement], Exported], sparse_copy: Artefact, tmp_path: Path, stage: str
) -> None:
    before = sparse_copy.directory

    def interrupt(begun: str) -> None:
        if begun == stage:
            raise KeyboardInterrupt

    checkpoint = export_of(Placement.LINEAR).checkpoint
    request = ExportRequest(str(checkpoint), before, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        export(request, on_stage=interrupt)
    assert list(tmp_path.iterdir()) == [before]
    assert read_artefact(before) == sparse_copy


def test_a_refused_model_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"nothing torch can read")
    with pytest.raises(NxmiError):
        export(ExportRequest(str(tmp_path / "model.pt"), tmp_path / "deep" / "artefact"))
    assert {path.name for path in tmp_path.rglob("*")} <= {"model.pt", "deep"}


def test_an_artefact_may_move_together_with_its_checkpoint(
    export_of: Callable[[Placement], Exported], tmp_path: Path
) -> None:
    exported = export_of(Placement.LINEAR)
    moved = tmp_path / "elsewhere"
    shutil.copytree(exported.directory.parent, moved)
    assert read_artefact(moved / "model.artefact").source() == moved / "model.pt"


def test_an_artefact_without_its_checkpoint_says_where_that_was(
    export_of: Callable[[Placement], Exported], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "model.artefact"
    shutil.copytree(export_of(Placement.LINEAR).directory, moved)
    assert read_artefact(moved).source() == "../model.pt"


def test_a_weight_scale_follows_its_weight(exported: Exported) -> None:
    """One scale per output channel, the one that PyTorch trained with."""
    values = arrays(exported.directory / "model.onnx")
    module = "bert.encoder.layer.1.output.dense"
    trained = exported.model.get_buffer(f"{module}.weight_quantizer.scale").numpy()
    assert LAYERS == 2
    dequantize = next(
        node
        for node in load(exported.directory / "model.onnx").graph.node
        if node.op_type == "DequantizeLinear" and node.input[0].startswith(f"model.{module}.weight")
    )
    np.testing.assert_array_equal(values[dequantize.input[1]], trained)
    assert [each.i for each in dequantize.attribute if each.name == "axis"] == [1]
