"""The good graph that the corpus of bad ones is made from."""

from pathlib import Path

import onnx_ir as ir
import pytest

from nxmi_export.checkpoint import write_checkpoint
from nxmi_export.compression import checkpoint_of
from nxmi_export.recipe import Placement, Recipe
from nxmi_export.workflow.export import ExportRequest, export
from tests.tiny_models import compressed_model

# As wide as 2:4 must be to gain anything; square, so that a transposed weight still fits.
SIZES = {"hidden_size": 256, "num_attention_heads": 8, "intermediate_size": 256}


@pytest.fixture(scope="session")
def good_artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    checkpoint = checkpoint_of(
        compressed_model(Placement.SPARSE, num_hidden_layers=1, **SIZES),
        recipe=Recipe(placement=Placement.SPARSE),
        tokenizer={"vocab.txt": b"[PAD]\n"},
        provenance={"task": "sst2", "seed": 0},
    )
    write_checkpoint(folder / "model.pt", checkpoint)
    request = ExportRequest(str(folder / "model.pt"), folder / "model.artefact")
    return export(request).directory


@pytest.fixture
def good(good_artefact: Path) -> ir.Model:
    """A fresh copy: mutations edit it in place."""
    model = ir.load(good_artefact / "model.onnx")
    ir.external_data.load_to_model(model)
    return model
