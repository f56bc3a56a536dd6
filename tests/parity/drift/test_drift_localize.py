"""Planted faults: each is found at its layer, under its cause, with evidence."""

import ast
import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from deployment_faults import (
    Edit,
    bypass,
    change_attribute,
    change_node,
    change_weight,
    change_weight_scale,
    drop_mask,
    drop_quantizer,
    exchange_operands,
    flip_code,
    scale_softmax_input,
    swap_scales,
)
from parity_models import (
    BATCH,
    DOWN,
    EMBEDDINGS,
    KEY,
    LAYER,
    QUERY,
    Exported,
    edited,
    node_of,
    replace_constant,
    rescale,
)

from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import ArtefactError, UsageError
from nxmi_export.parity import weights
from nxmi_export.parity.drift import (
    Cause,
    Kind,
    Localization,
    PaddingEvidence,
    TieEvidence,
    localize,
)
from nxmi_export.parity.drift.cause import cause_of_mismatch
from nxmi_export.parity.layer_weights import Mismatch
from nxmi_export.parity.weights import weight_parity

NORM = "bert.embeddings.LayerNorm"
SELF = LAYER.format(0) + ".attention.self"
UP = LAYER.format(0) + ".intermediate.dense"
GELU = LAYER.format(0) + ".intermediate.intermediate_act_fn"
OUTPUT = LAYER.format(0) + ".output.LayerNorm"
WORDS = "bert.embeddings.word_embeddings"
CONTEXT = LAYER.format(0) + ".attention.output.dense.input_quantizer"


def _ulp(scale: np.ndarray) -> np.ndarray:
    scale.reshape(-1)[0] = np.nextafter(scale.reshape(-1)[0], np.inf)
    return scale


def _localize(
    exported: Exported, data: EncodedDataset, path: Path, batch_size: int = BATCH
) -> Localization:
    return localize(exported.model, path, data, batch_size=batch_size, threads=1)


@pytest.mark.parametrize("name", ["path", "cpu_path"])
def test_an_honest_export_is_explained(
    name: str, sparse: Exported, mixed: Exported, data: EncodedDataset
) -> None:
    for exported in (sparse, mixed):
        found = _localize(exported, data, getattr(exported, name))
        assert found.explained
        assert found.first is None
        assert max(each.times for each in found.excesses) < 0.5
        assert found.attribution is None or found.attribution.cause is Cause.ROUNDING_TIE


# Fault, the cause, the module, and the kind of the first point that deviates (None: none does).
FAULTS: dict[str, tuple[Edit, Cause, str, Kind | None]] = {
    "one flipped weight code": (
        change_weight(QUERY, flip_code),
        Cause.WEIGHT_CODE,
        QUERY,
        Kind.LINEAR,
    ),
    "a weight scale one ulp off": (change_weight_scale(DOWN, _ulp), Cause.SCALE, DOWN, None),
    "a weight scale 1 % off": (
        change_weight_scale(DOWN, lambda scale: scale * np.float32(1.01)),
        Cause.SCALE,
        DOWN,
        Kind.LINEAR,
    ),
    "weight scales permuted": (
        change_weight_scale(UP, lambda scale: scale[::-1].copy()),
        Cause.SCALE,
        UP,
        Kind.LINEAR,
    ),
    "an activation scale 1 % off": (
        rescale(EMBEDDINGS, 1.01),
        Cause.SCALE,
        EMBEDDINGS,
        Kind.QUANTIZER,
    ),
    "the scales of query and key swapped": (
        swap_scales(f"{QUERY}.output_quantizer", f"{KEY}.output_quantizer"),
        Cause.SCALE,
        f"{QUERY}.output_quantizer",
        Kind.QUANTIZER,
    ),
    "a dropped quantizer": (drop_quantizer(CONTEXT), Cause.QUANTIZER, CONTEXT, None),
    "embeddings off by one row": (
        change_node(WORDS, "Gather", 0, lambda table: np.roll(table, 1, axis=0)),
        Cause.WEIGHT,
        WORDS,
        Kind.EMBEDDING,
    ),
    "a bias that is off": (
        change_node(UP, "Add", 1, lambda bias: bias + np.float32(0.01)),
        Cause.WEIGHT,
        UP,
        Kind.LINEAR,
    ),
    "labels in another order": (
        change_node("classifier", "Gemm", 1, lambda weight: weight[::-1].copy()),
        Cause.WEIGHT,
        "classifier",
        Kind.LINEAR,
    ),
    "another epsilon": (
        change_attribute(OUTPUT, "LayerNormalization", "epsilon", 1e-2),
        Cause.LAYER_NORM,
        OUTPUT,
        Kind.NORM,
    ),
    "another bias of a norm": (
        change_node(NORM, "LayerNormalization", 2, lambda bias: bias + np.float32(0.01)),
        Cause.LAYER_NORM,
        NORM,
        Kind.NORM,
    ),
    "another softmax scale": (
        scale_softmax_input(SELF, 1.01),
        Cause.SOFTMAX,
        SELF,
        Kind.ATTENTION,
    ),
    "a mask that is not applied": (drop_mask(SELF), Cause.PADDING, SELF, Kind.ATTENTION),
    "query and key exchanged": (
        exchange_operands(f"{QUERY}.output_quantizer", f"{KEY}.output_quantizer", SELF),
        Cause.SCORES,
        SELF,
        Kind.ATTENTION,
    ),
    "a residual that is not added": (
        bypass(LAYER.format(0) + ".output", "Add"),
        Cause.SUM,
        OUTPUT,
        Kind.INPUT,
    ),
    "a pooler without tanh": (
        bypass("bert.pooler.activation", "Tanh"),
        Cause.OPERATOR,
        "classifier",
        Kind.INPUT,
    ),
    "another gelu": (
        change_attribute(GELU, "Gelu", "approximate", "tanh"),
        Cause.OPERATOR,
        GELU,
        Kind.ACTIVATION,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_where_it_is_and_named(
    fault: str, sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    edit, cause, module, kind = FAULTS[fault]
    found = _localize(sparse, data, edited(sparse.path, tmp_path, edit))
    assert not found.explained
    assert found.attribution is not None
    assert (found.attribution.cause, found.attribution.module) == (cause, module)
    if kind is None:
        assert found.first is None
    else:
        assert found.first is not None
        assert (found.first.point.module, found.first.point.kind) == (module, kind)
        assert found.first.times > 1


def test_the_reason_tells_who_made_a_value_and_what_the_graph_lacks(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    path = edited(sparse.path, tmp_path, bypass("bert.pooler.activation", "Tanh"))
    attribution = _localize(sparse, data, path).attribution
    assert attribution is not None
    assert attribution.reason.startswith("classifier (input) at [")
    assert attribution.maker == "bert.pooler.dense"
    assert list(map(str, attribution.absent)) == ["bert.pooler.activation (activation)"]
    assert attribution.reason.endswith(
        "its stored numbers are right, made by bert.pooler.dense (Gemm bert.pooler.dense/Gemm); "
        "the graph shows nothing of bert.pooler.activation (activation) before it."
    )


def test_a_sum_that_is_wrong_is_no_fault_of_the_norm_behind_it(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    """The other operand is put twice, so that the addition is still there."""

    def twice(model: ir.Model) -> None:
        add = node_of(model, LAYER.format(0) + ".output", "Add")
        add.replace_input_with(0, add.inputs[1])

    attribution = _localize(sparse, data, edited(sparse.path, tmp_path, twice)).attribution
    assert attribution is not None
    assert attribution.cause is Cause.SUM
    assert "made by bert.encoder.layer.0.output (Add " in attribution.reason


def test_a_factor_too_small_for_any_single_value_is_told_as_an_average(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    module = LAYER.format(0) + ".output.LayerNorm"

    def scale(model: ir.Model) -> None:
        norm = node_of(model, module, "LayerNormalization")
        for index in (1, 2):  # weight and bias: the whole output
            replace_constant(norm, index, lambda array: array * np.float32(1 + 4e-6))

    ignored = ("norm weight", "norm bias")
    path = edited(sparse.path, tmp_path, scale)
    found = localize(
        sparse.model, path, data, batch_size=BATCH, threads=1, ignored=ignored
    ).attribution
    assert found is not None
    assert found.reason.startswith(f"{module}.output_quantizer (quantizer) of example ")
    assert " of its magnitude away on average, where summation order accounts for " in found.reason


def test_nothing_before_a_fault_deviates(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    path = edited(sparse.path, tmp_path, change_attribute(GELU, "Gelu", "approximate", "tanh"))
    found = _localize(sparse, data, path)
    beyond = [each.point.module for each in found.excesses if each.times > 1]
    # From its codes on both sides are forced to agree, so what follows does not deviate either.
    assert beyond == [GELU, LAYER.format(0) + ".output.dense.input_quantizer"]


def test_the_evidence_of_a_stored_number_is_its_first_index(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    path = edited(sparse.path, tmp_path, change_weight_scale(DOWN, _ulp))
    attribution = _localize(sparse, data, path).attribution
    assert attribution is not None
    evidence = attribution.evidence
    assert isinstance(evidence, Mismatch)
    assert (evidence.what, evidence.position, evidence.count) == ("scale", (0,), 1)
    assert attribution.reason == f"{evidence}."


def test_the_evidence_of_padding_is_the_example_alone(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    attribution = _localize(
        sparse, data, edited(sparse.path, tmp_path, drop_mask(SELF))
    ).attribution
    assert attribution is not None
    evidence = attribution.evidence
    assert isinstance(evidence, PaddingEvidence)
    assert evidence.alone < 1 < evidence.padded.times
    assert evidence.tokens == data.lengths[evidence.padded.example] < evidence.padded_tokens
    assert attribution.reason.endswith(
        f"when its {evidence.tokens} tokens are padded to {evidence.padded_tokens}, and "
        f"{evidence.alone:.3g} times without padding."
    )


def test_without_padding_a_missing_mask_is_no_fault(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    found = _localize(sparse, data, edited(sparse.path, tmp_path, drop_mask(SELF)), batch_size=1)
    assert found.explained


def test_a_code_that_tips_at_a_tie_is_a_tie(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    """A bias moved by less than rounding does tips some code of 40 examples."""
    scale = sparse.model.get_submodule(EMBEDDINGS).scale.item()

    def nudge(model: ir.Model) -> None:
        norm = node_of(model, NORM, "LayerNormalization")
        replace_constant(norm, 2, lambda bias: bias + np.float32(2e-5 * scale))

    found = _localize(sparse, data, edited(sparse.path, tmp_path, nudge))
    assert found.first is None
    # The stored number is at fault all the same, and says so.
    assert found.attribution is not None
    assert found.attribution.cause is Cause.LAYER_NORM


def test_ties_are_the_cause_where_all_stored_numbers_agree(
    sparse: Exported, data: EncodedDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scale = sparse.model.get_submodule(EMBEDDINGS).scale.item()

    def nudge(model: ir.Model) -> None:
        norm = node_of(model, NORM, "LayerNormalization")
        replace_constant(norm, 2, lambda bias: bias + np.float32(2e-5 * scale))

    # Stands for sums in another order, which this machine's kernels cannot be made to have.
    module = importlib.import_module("nxmi_export.parity.drift.localize")
    intact = weight_parity(sparse.model, sparse.path)
    monkeypatch.setattr(module, "weight_parity", lambda model, path, **_: intact)
    found = _localize(sparse, data, edited(sparse.path, tmp_path, nudge))
    assert found.explained
    assert found.attribution is not None
    assert found.attribution.cause is Cause.ROUNDING_TIE
    evidence = found.attribution.evidence
    assert isinstance(evidence, TieEvidence)
    before, after = evidence.difference.codes
    assert abs(before - after) == 1
    assert all(abs(ratio % 1 - 0.5) < 1e-3 for ratio in evidence.difference.ratios)


def test_the_result_is_plain_json(sparse: Exported, data: EncodedDataset, tmp_path: Path) -> None:
    found = _localize(sparse, data, edited(sparse.path, tmp_path, drop_mask(SELF)))
    document = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert document["schema"] == "nxmi-export/localization/1"
    assert document["explained"] is False
    assert document["attribution"]["cause"] == "padding"
    assert document["attribution"]["kind_of_evidence"] == "PaddingEvidence"


def test_the_file_of_another_model_is_told_by_its_first_mismatch(
    sparse: Exported, mixed: Exported, data: EncodedDataset
) -> None:
    found = _localize(sparse, data, mixed.path)
    assert found.examples == 0
    assert found.attribution is not None
    assert found.attribution.cause is Cause.QUANTIZER


def test_no_examples_are_refused(sparse: Exported, data: EncodedDataset) -> None:
    with pytest.raises(UsageError) as error:
        localize(sparse.model, sparse.path, data, batch_size=8, order=np.array([], np.int64))
    assert str(error.value) == (
        f"localizing what differs in {sparse.path}: expected examples, found none; "
        "give at least one"
    )


def test_a_file_that_is_not_there_is_refused(
    sparse: Exported, data: EncodedDataset, tmp_path: Path
) -> None:
    with pytest.raises(ArtefactError, match="expected a readable ONNX model"):
        _localize(sparse, data, tmp_path / "absent.onnx")


def test_progress_counts_examples(sparse: Exported, data: EncodedDataset) -> None:
    seen: list[tuple[int, int]] = []
    localize(
        sparse.model,
        sparse.path,
        data,
        batch_size=32,
        threads=1,
        on_batch=lambda *each: seen.append(each),
    )
    assert seen == [(32, 40), (40, 40)]


_TOLD_BY = {"Mismatch", "array_mismatches"}


def _kinds() -> Iterator[str]:
    """What each `Mismatch(…)` in the source says differs, but for those that a variable names."""
    for path in Path(weights.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in _TOLD_BY:
                what = call.args[1]
                if isinstance(what, ast.Constant):
                    yield what.value


def test_whatever_differs_in_a_stored_number_has_a_cause() -> None:
    kinds = set(_kinds())
    assert {"table", "scale", "quantizer", "norm bias"} <= kinds
    for kind in kinds:
        assert isinstance(cause_of_mismatch(Mismatch("module", kind, "one", "another")), Cause)
