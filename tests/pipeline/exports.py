"""Tiny encoders, exported: large enough that TensorRT fuses their attention, small otherwise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from nxmi_export.artefact import Artefact
from nxmi_export.checkpoint import write_checkpoint
from nxmi_export.compression import checkpoint_of
from nxmi_export.recipe import Placement, Recipe
from nxmi_export.workflow.export import ExportRequest, export
from tests.tiny_models import compressed_model

# Heads of 32: attention with heads of 8 is not fused.
SIZES: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
LAYERS = 2
ENCODER_LINEARS = 6 * LAYERS
ONNX_FILES = ("model.onnx", "model.cpu.onnx")


@dataclass(frozen=True)
class Exported:
    """A PyTorch model, the checkpoint it was saved to, and the artefact made of that."""

    model: PreTrainedModel
    checkpoint: Path
    artefact: Artefact

    @property
    def directory(self) -> Path:
        return self.artefact.directory

    @property
    def quantized_attentions(self) -> int:
        """Layers whose attention products read integers."""
        recipe = self.artefact.manifest.recipe
        assert recipe is not None
        return 0 if recipe["placement"] == Placement.LINEAR else LAYERS


def write_compressed(path: Path, placement: Placement) -> PreTrainedModel:
    """Write model.pt of a calibrated 2:4 + INT8 encoder with a tokenizer file."""
    model = compressed_model(placement, **SIZES)
    checkpoint = checkpoint_of(
        model,
        recipe=Recipe(placement=placement),
        tokenizer={"vocab.txt": b"[PAD]\n"},
        provenance={"task": "sst2", "seed": 0},
    )
    write_checkpoint(path, checkpoint)
    return model


def export_compressed(folder: Path, placement: Placement) -> Exported:
    """Write model.pt under `folder` and export it beside."""
    model = write_compressed(folder / "model.pt", placement)
    request = ExportRequest(str(folder / "model.pt"), folder / "model.artefact")
    return Exported(model, folder / "model.pt", export(request))


def batch() -> dict[str, torch.Tensor]:
    """Two sequences of seven tokens, the second padded to the right."""
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    ids = torch.arange(14).reshape(2, 7)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def load(path: Path) -> onnx.ModelProto:
    """The graph as it is in the file, its external tensors left where they are."""
    return onnx.load(path, load_external_data=False)


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every initializer by name, external ones included."""
    model = onnx.load(path)
    return {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}


def external_tensors(path: Path) -> dict[str, tuple[str, int, int]]:
    """File, offset and length of every tensor that is stored outside of `path`."""
    found = {}
    for tensor in load(path).graph.initializer:
        if tensor.external_data:
            info = {entry.key: entry.value for entry in tensor.external_data}
            found[tensor.name] = (info["location"], int(info["offset"]), int(info["length"]))
    return found


def produced_by(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node behind every value."""
    return {name: node for node in model.graph.node for name in node.output}


def stored_weights(path: Path) -> dict[str, tuple[NDArray[np.int8], NDArray[Any] | None]]:
    """Codes (K, N) and zero-point of every product with integers from the file, by module name."""
    model, values = load(path), arrays(path)
    producer = produced_by(model)
    found = {}
    for node in model.graph.node:
        source = producer.get(node.input[1]) if node.op_type == "MatMul" else None
        if source is None or source.op_type != "DequantizeLinear":
            continue
        if (codes := values.get(source.input[0])) is not None:
            zero = values[source.input[2]] if len(source.input) > 2 else None
            found[node.name.removesuffix("/MatMul")] = (codes, zero)
    return found
