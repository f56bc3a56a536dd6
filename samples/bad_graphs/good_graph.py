"""The good graph: a seeded encoder of one small block, as wide as 2:4 must be to gain anything.

Its layers are square, so that a transposed weight still fits.
"""

from pathlib import Path

import onnx_ir as ir
from transformers import BertConfig

from nxmi_export.artefact import MODEL
from nxmi_export.workflow.export import ExportRequest, export
from samples.random_bert import write_random_bert

__all__ = ["load_graph", "write_good_artefact"]

_CONFIG = BertConfig(
    vocab_size=96,
    max_position_embeddings=64,
    hidden_size=256,
    intermediate_size=256,
    num_hidden_layers=1,
    num_attention_heads=8,
    initializer_range=0.2,  # wide enough that logits differ by text
)


def write_good_artefact(folder: Path) -> Path:
    """Export the good graph under `folder`, `sparse` placement; returns the graph's path."""
    model = folder / "model.pt"
    write_random_bert(model, config=_CONFIG)
    return export(ExportRequest(str(model), folder / "model.artefact")).path(MODEL)


def load_graph(path: Path) -> ir.Model:
    """The graph with its tensors in memory, to be edited."""
    model = ir.load(path)
    ir.external_data.load_to_model(model)
    return model
