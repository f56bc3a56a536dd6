"""Fusions of onnxruntime, judged by the first codes that part."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from parity_models import (
    BATCH,
    DOWN,
    EMBEDDINGS,
    Exported,
    edited,
    layer_of,
    node_of,
    replace_constant,
    rescale,
)

from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import ArtefactError, UsageError
from nxmi_export.parity.drift import Cause, FusionCheck, FusionEvidence, TieEvidence, check_fusions

NORM = "bert.embeddings.LayerNorm"
OUTPUT = f"{DOWN}.output_quantizer"


def _check(exported: Exported, optimized: Path, data: EncodedDataset) -> FusionCheck:
    return check_fusions(
        exported.model, exported.path, optimized, data, batch_size=BATCH, threads=1
    )


def test_what_onnxruntime_fuses_parts_at_ties_alone(
    sparse: Exported, mixed: Exported, data: EncodedDataset
) -> None:
    for exported in (sparse, mixed):
        found = _check(exported, exported.cpu_path, data)
        assert (found.examples, found.fused) == (40, 0)
        assert found.equal + found.tipped == 40
        assert found.equal > 20
        assert found.attribution is None or found.attribution.cause is Cause.ROUNDING_TIE


def test_reading_codes_leaves_the_logits_as_deployed(
    sparse: Exported, data: EncodedDataset
) -> None:
    assert _check(sparse, sparse.cpu_path, data).perturbation < 1e-6


@pytest.mark.parametrize("module", [EMBEDDINGS, OUTPUT])
def test_a_kernel_that_rounds_elsewhere_is_a_fusion(
    module: str, sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    # A scale that only the optimized side has stands for a kernel with another arithmetic.
    found = _check(sparse, edited(sparse.cpu_path, tmp_path, rescale(module, 1.01)), data)
    assert found.fused > 20
    assert found.attribution is not None
    assert (found.attribution.cause, found.attribution.module) == (Cause.FUSION, module)
    evidence = found.attribution.evidence
    assert isinstance(evidence, FusionEvidence)
    assert evidence.distance > evidence.explained
    assert abs(evidence.written - evidence.optimized) >= 1


def test_a_tie_that_tips_is_told_from_a_fusion(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    scale = sparse.model.get_submodule(EMBEDDINGS).scale.item()

    def nudge(model: ir.Model) -> None:
        norm = node_of(model, NORM, "LayerNormalization")
        replace_constant(norm, 2, lambda bias: bias + np.float32(2e-5 * scale))

    found = _check(sparse, edited(sparse.cpu_path, tmp_path, nudge), data)
    assert found.fused == 0
    assert found.tipped > 0
    assert found.attribution is not None
    assert found.attribution.cause is Cause.ROUNDING_TIE
    evidence = found.attribution.evidence
    assert isinstance(evidence, TieEvidence)
    ratio, unseen = evidence.difference.ratios
    assert abs(ratio % 1 - 0.5) < 1e-3
    assert np.isnan(unseen)


def test_a_difference_behind_the_last_quantizer_shows_in_the_logits(
    mixed: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    def double(model: ir.Model) -> None:
        replace_constant(layer_of(model, "classifier").node, 1, lambda weight: weight * 2)

    found = _check(mixed, edited(mixed.cpu_path, tmp_path, double), data)
    assert found.fused == 40 - found.tipped
    assert found.attribution is not None
    assert (found.attribution.cause, found.attribution.module) == (Cause.FUSION, "")
    assert found.attribution.reason.startswith("From equal codes before it, the logits at [")


def test_the_result_is_plain_json(sparse: Exported, data: EncodedDataset, tmp_path: Path) -> None:
    found = _check(sparse, edited(sparse.cpu_path, tmp_path, rescale(EMBEDDINGS, 1.01)), data)
    document = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert document["schema"] == "nxmi-export/fusion/1"
    assert document["attribution"]["cause"] == "fusion"
    assert document["examples"] == document["equal"] + document["tipped"] + document["fused"]


def test_the_file_of_another_model_is_refused(
    sparse: Exported, mixed: Exported, data: EncodedDataset
) -> None:
    with pytest.raises(ArtefactError) as error:
        _check(sparse, mixed.cpu_path, data)
    assert str(error.value) == (
        f"{mixed.cpu_path}: expected the quantizers of the PyTorch model, found a difference: "
        f"the graph has no quantizer for {EMBEDDINGS}; export the model again from this checkpoint"
    )


def test_no_examples_are_refused(sparse: Exported, data: EncodedDataset) -> None:
    nothing = np.array([], np.int64)
    with pytest.raises(UsageError) as error:
        check_fusions(sparse.model, sparse.path, sparse.cpu_path, data, batch_size=8, order=nothing)
    assert str(error.value) == (
        f"the fusions of {sparse.cpu_path}: expected examples, found none; give at least one"
    )
