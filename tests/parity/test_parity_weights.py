"""The stored weights: every number compared, and one that is off found where it is."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from parity_models import (
    DOWN,
    EMBEDDINGS,
    KEY,
    LAYER,
    QUERY,
    Exported,
    edited,
    layer_of,
    node_of,
    replace_constant,
    rescale,
)
from torch import nn

from nxmi_export.errors import ArtefactError
from nxmi_export.parity import WeightParity, weight_parity
from nxmi_export.parity.weights import Mismatch
from passes import MODULE_KEY

Edit = Callable[[ir.Model], None]

CLASSIFIER = "classifier"
DENSE = LAYER.format(0) + ".attention.output.dense"  # of `mixed`
UP = LAYER.format(0) + ".intermediate.dense"


def _complaints(parity: WeightParity) -> list[str]:
    return [str(mismatch) for mismatch in parity.mismatches]


def _rename(module: str, op_type: str, new: str) -> Edit:
    def edit(model: ir.Model) -> None:
        node_of(model, module, op_type).metadata_props[MODULE_KEY] = new

    return edit


def _change_weight(module: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """An edit of the stored matrix (K, N), in place."""

    def edit(model: ir.Model) -> None:
        weight = layer_of(model, module).weight
        reader = weight.path[0] if weight.path else layer_of(model, module).node
        replace_constant(reader, 1 - len(weight.path[:1]), change)

    return edit


def names_of_linears(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def test_a_lowered_file_stores_what_was_trained(sparse: Exported) -> None:
    parity = weight_parity(sparse.model, sparse.path)
    assert replace(parity, compared=frozenset()) == WeightParity(
        14, compressed=12, patterned=12, quantizers=20, mismatches=(), parameters=13
    )
    assert parity.compared == names_of_linears(sparse.model)
    assert parity.equal


def test_int4_float_and_dense_weights_are_compared_too(mixed: Exported) -> None:
    parity = weight_parity(mixed.model, mixed.path)
    assert replace(parity, compared=frozenset()) == WeightParity(
        14, compressed=10, patterned=4, quantizers=4, mismatches=(), parameters=10, tables=3
    )
    assert parity.compared == names_of_linears(mixed.model)


def test_unsigned_activations_are_the_same_quantizers(sparse: Exported) -> None:
    assert weight_parity(sparse.model, sparse.cpu_path).equal


def test_the_float16_file_stores_the_same_integers_and_scales(sparse: Exported) -> None:
    assert weight_parity(sparse.model, sparse.float16_path, float16=True).equal
    # Its linears are all float32, its tables are not.
    tables = weight_parity(sparse.model, sparse.float16_path).mismatches
    assert {mismatch.what for mismatch in tables} == {"type of embedding"}


def test_a_dense_layer_may_be_rounded_to_float16_where_that_is_said(mixed: Exported) -> None:
    assert weight_parity(mixed.model, mixed.float16_path, float16=True).equal
    complaints = _complaints(weight_parity(mixed.model, mixed.float16_path))
    assert f"{DENSE}: type of weight is float16, not float32" in complaints
    assert f"{DENSE}: type of bias is float16, not float32" in complaints


def test_a_float16_weight_that_is_one_ulp_off_is_found(mixed: Exported, tmp_path: Path) -> None:
    def nudge(weight: np.ndarray) -> np.ndarray:
        weight[2, 5] = np.nextafter(weight[2, 5], np.float16(10))
        return weight

    path = edited(mixed.float16_path, tmp_path, _change_weight(DENSE, nudge))
    (mismatch,) = weight_parity(mixed.model, path, float16=True).mismatches
    assert (mismatch.module, mismatch.what, mismatch.position) == (DENSE, "weight", (5, 2))


def test_a_scale_of_the_float16_file_that_is_off_is_found(sparse: Exported, tmp_path: Path) -> None:
    path = edited(sparse.float16_path, tmp_path, rescale(EMBEDDINGS, 1.001))
    (mismatch,) = weight_parity(sparse.model, path, float16=True).mismatches
    assert (mismatch.module, mismatch.what) == (EMBEDDINGS, "scale")


def test_a_flipped_integer_is_found_with_layer_and_index(sparse: Exported, tmp_path: Path) -> None:
    channel, feature = 7, 2
    trained = int(sparse.model.get_submodule(QUERY).codes()[channel, feature])

    def flip(codes: np.ndarray) -> np.ndarray:
        codes[feature, channel] = trained ^ 1  # stored (K, N)
        return codes

    path = edited(sparse.path, tmp_path, _change_weight(QUERY, flip))
    found = _complaints(weight_parity(sparse.model, path))
    assert found[0] == f"{QUERY}: code at [7, 2] is {trained ^ 1}, not {trained}"
    assert {text.split(":")[0] for text in found} == {QUERY}


def test_a_scale_that_is_one_ulp_off_is_found(sparse: Exported, tmp_path: Path) -> None:
    trained = sparse.model.get_submodule(DOWN).weight_quantizer.scale.numpy()[5]
    above = np.nextafter(trained, np.float32(1))

    def nudge(scale: np.ndarray) -> np.ndarray:
        scale[5] = above
        return scale

    def edit(model: ir.Model) -> None:
        replace_constant(layer_of(model, DOWN).weight.path[0], 1, nudge)

    found = _complaints(weight_parity(sparse.model, edited(sparse.path, tmp_path, edit)))
    assert found == [f"{DOWN}: scale at [5] is {above!s}, not {trained!s}"]


def test_swapped_layers_are_found_both(sparse: Exported, tmp_path: Path) -> None:
    def swap(model: ir.Model) -> None:
        query, key = layer_of(model, QUERY), layer_of(model, KEY)
        query.node.metadata_props[MODULE_KEY] = KEY
        key.node.metadata_props[MODULE_KEY] = QUERY

    parity = weight_parity(sparse.model, edited(sparse.path, tmp_path, swap))
    assert {(m.module, m.what) for m in parity.mismatches} == {
        (module, what) for module in (QUERY, KEY) for what in ("code", "scale", "bias")
    }


def test_a_layer_that_is_missing_and_one_too_many_are_found(
    sparse: Exported, tmp_path: Path
) -> None:
    path = edited(sparse.path, tmp_path, _rename(QUERY, "MatMul", "somewhere.else"))
    assert _complaints(weight_parity(sparse.model, path)) == [
        f"{QUERY}: layer is missing from the graph, not a linear layer",
        "somewhere.else: layer is a linear layer, not none in the PyTorch model",
    ]


def test_a_quantizer_that_is_missing_and_one_too_many_are_found(
    sparse: Exported, tmp_path: Path
) -> None:
    path = edited(sparse.path, tmp_path, _rename(EMBEDDINGS, "QuantizeLinear", "elsewhere"))
    assert _complaints(weight_parity(sparse.model, path)) == [
        f"{EMBEDDINGS}: quantizer is missing from the graph, not a QuantizeLinear",
        "elsewhere: quantizer is a QuantizeLinear, not none in the PyTorch model",
    ]


def test_a_shared_quantizer_is_known_by_each_of_its_names(mixed: Exported, tmp_path: Path) -> None:
    first, other = f"{QUERY}.input_quantizer", f"{KEY}.input_quantizer"
    path = edited(mixed.path, tmp_path, _rename(first, "QuantizeLinear", other))
    assert weight_parity(mixed.model, path).equal


def test_an_activation_scale_that_is_off_is_found(sparse: Exported, tmp_path: Path) -> None:
    path = edited(sparse.path, tmp_path, rescale(EMBEDDINGS, 1.01))
    (mismatch,) = weight_parity(sparse.model, path).mismatches
    assert (mismatch.module, mismatch.what) == (EMBEDDINGS, "scale")


def test_a_dequantizer_with_a_scale_of_its_own_is_found(sparse: Exported, tmp_path: Path) -> None:
    def edit(model: ir.Model) -> None:
        node = node_of(model, EMBEDDINGS, "DequantizeLinear")
        replace_constant(node, 1, lambda scale: scale * np.float32(1.01))

    (mismatch,) = weight_parity(sparse.model, edited(sparse.path, tmp_path, edit)).mismatches
    assert mismatch.what == "pair"
    assert mismatch.module.startswith(EMBEDDINGS)


def test_a_shifted_zero_point_of_a_weight_is_found(sparse: Exported, tmp_path: Path) -> None:
    def edit(model: ir.Model) -> None:
        shift = layer_of(model, KEY).weight.path[0]
        replace_constant(shift, 2, lambda point: np.full_like(point, 3))

    found = _complaints(weight_parity(sparse.model, edited(sparse.path, tmp_path, edit)))
    assert found == [f"{KEY}: zero-point at [0] is 3, not 0, the first of 32"]


def test_a_float_weight_that_is_one_ulp_off_is_found(mixed: Exported, tmp_path: Path) -> None:
    trained = mixed.model.classifier.weight.detach().numpy()[1, 4]
    above = np.nextafter(trained, np.float32(9))

    def edit(model: ir.Model) -> None:
        weight = layer_of(model, CLASSIFIER).weight

        def nudge(stored: np.ndarray) -> np.ndarray:
            stored[(1, 4) if weight.reduction_axis == 1 else (4, 1)] = above
            return stored

        replace_constant(layer_of(model, CLASSIFIER).node, 1, nudge)

    found = _complaints(weight_parity(mixed.model, edited(mixed.path, tmp_path, edit)))
    assert found == [f"{CLASSIFIER}: weight at [1, 4] is {above!s}, not {trained!s}"]


@pytest.mark.parametrize(
    ("module", "kind", "wanted"),
    [
        (UP, "Clip", "DequantizeLinear"),
        (UP, "Cast", "DequantizeLinear"),
        (CLASSIFIER, "Clip", "direct"),
    ],
)
def test_what_changes_weights_on_their_way_is_found(
    sparse: Exported, tmp_path: Path, module: str, kind: str, wanted: str
) -> None:
    def edit(model: ir.Model) -> None:
        product = layer_of(model, module).node
        changed = ir.node(kind, [product.inputs[1]], {"to": 1} if kind == "Cast" else {})
        changed.outputs[0].name = "changed"
        model.graph.insert_before(product, changed)
        product.replace_input_with(1, changed.outputs[0])

    found = _complaints(weight_parity(sparse.model, edited(sparse.path, tmp_path, edit)))
    met = kind if wanted == "direct" else f"{wanted} → {kind}"
    assert found == [f"{module}: way to the product is {met}, not {wanted}"]


@pytest.mark.parametrize("to", [ir.DataType.INT32, ir.DataType.BOOL, ir.DataType.BFLOAT16])
def test_a_cast_that_loses_weights_is_found_in_a_float16_file_too(
    sparse: Exported, tmp_path: Path, to: ir.DataType
) -> None:
    def edit(model: ir.Model) -> None:
        product = layer_of(model, UP).node
        value = product.inputs[1]
        for target in (to, ir.DataType.FLOAT):
            changed = ir.node("Cast", [value], {"to": int(target)})
            value = changed.outputs[0]
            value.name = f"cast_{target}"
            model.graph.insert_before(product, changed)
        product.replace_input_with(1, value)

    path = edited(sparse.path, tmp_path, edit)
    told = f"{UP}: way to the product is DequantizeLinear → Cast, not DequantizeLinear"
    assert told in _complaints(weight_parity(sparse.model, path, float16=True))


@pytest.mark.parametrize("to", [ir.DataType.INT32, ir.DataType.BFLOAT16])
def test_a_bias_behind_a_cast_that_loses_sums_is_missing(
    sparse: Exported, tmp_path: Path, to: ir.DataType
) -> None:
    def edit(model: ir.Model) -> None:
        product = layer_of(model, UP).node
        (use,) = product.outputs[0].uses()
        value = product.outputs[0]
        for target in (to, ir.DataType.FLOAT):
            changed = ir.node("Cast", [value], {"to": int(target)})
            value = changed.outputs[0]
            value.name = f"cast_{target}"
            model.graph.insert_before(use.node, changed)
        use.node.replace_input_with(use.idx, value)

    found = _complaints(weight_parity(sparse.model, edited(sparse.path, tmp_path, edit)))
    assert found == [f"{UP}: bias is missing, not a constant one"]


def test_a_bias_that_is_off_is_found(sparse: Exported, tmp_path: Path) -> None:
    def edit(model: ir.Model) -> None:
        add = layer_of(model, UP).add
        assert add is not None
        replace_constant(add, 1, lambda bias: np.where(np.arange(64) == 9, np.float32(3), bias))

    trained = sparse.model.get_submodule(UP).bias.detach().numpy()[9]
    found = _complaints(weight_parity(sparse.model, edited(sparse.path, tmp_path, edit)))
    assert found == [f"{UP}: bias at [9] is 3.0, not {trained!s}"]


def test_a_bias_that_is_not_added_is_found(sparse: Exported, tmp_path: Path) -> None:
    def edit(model: ir.Model) -> None:
        add = layer_of(model, UP).add
        assert add is not None
        add.outputs[0].replace_all_uses_with(layer_of(model, UP).node.outputs[0])

    found = _complaints(weight_parity(sparse.model, edited(sparse.path, tmp_path, edit)))
    assert found == [f"{UP}: bias is missing, not a constant one"]


def test_a_group_with_three_non_zeros_is_named(sparse: Exported, tmp_path: Path) -> None:
    def fill(codes: np.ndarray) -> np.ndarray:
        codes[8:12, 3] = 1  # inputs 8…11 of channel 3
        return codes

    path = edited(sparse.path, tmp_path, _change_weight(UP, fill))
    found = _complaints(weight_parity(sparse.model, path))
    assert found[-1] == f"{UP}: pattern at [3, 8] is [1, 1, 1, 1], not 2:4 sparse"


def test_the_pattern_of_a_float_weight_is_checked(mixed: Exported, tmp_path: Path) -> None:
    def fill(weight: np.ndarray) -> np.ndarray:
        weight[:4, 0] = 0.5
        return weight

    path = edited(mixed.path, tmp_path, _change_weight(DOWN, fill))
    found = _complaints(weight_parity(mixed.model, path))
    assert found[-1] == f"{DOWN}: pattern at [0, 0] is [0.5, 0.5, 0.5, 0.5], not 2:4 sparse"


NORM, WORDS = "bert.embeddings.LayerNorm", "bert.embeddings.word_embeddings"


@pytest.mark.parametrize("name", ["path", "cpu_path"])
@pytest.mark.parametrize(
    ("module", "op_type", "index", "what", "position"),
    [
        (WORDS, "Gather", 0, "embedding", (70, 5)),
        (NORM, "LayerNormalization", 1, "norm weight", (9,)),
        (NORM, "LayerNormalization", 2, "norm bias", (9,)),
    ],
)
def test_a_parameter_that_is_one_ulp_off_is_found(
    name: str,
    module: str,
    op_type: str,
    index: int,
    what: str,
    position: tuple[int, ...],
    sparse: Exported,
    tmp_path: Path,
) -> None:
    seen: list[np.ndarray] = []

    def nudge(stored: np.ndarray) -> np.ndarray:
        seen.append(stored.copy())
        stored[position] = np.nextafter(stored[position], np.float32(9))
        seen.append(stored)
        return stored

    def edit(model: ir.Model) -> None:
        replace_constant(node_of(model, module, op_type), index, nudge)

    path = edited(getattr(sparse, name), tmp_path, edit)
    before, after = (str(array[position]) for array in seen)
    assert _complaints(weight_parity(sparse.model, path)) == [
        f"{module}: {what} at {list(position)} is {after}, not {before}"
    ]


@pytest.mark.parametrize("epsilon", [1e-5, math.nan])
def test_another_epsilon_is_found(sparse: Exported, tmp_path: Path, epsilon: float) -> None:
    def edit(model: ir.Model) -> None:
        node = node_of(model, NORM, "LayerNormalization")
        node.attributes.add(ir.AttrFloat32("epsilon", epsilon))

    assert _complaints(weight_parity(sparse.model, edited(sparse.path, tmp_path, edit))) == [
        f"{NORM}: norm epsilon is {epsilon:g}, not 1e-12"
    ]


def test_a_norm_and_a_table_under_other_names_are_missing_and_too_many(
    sparse: Exported, tmp_path: Path
) -> None:
    def edit(model: ir.Model) -> None:
        _rename(NORM, "LayerNormalization", "elsewhere.norm")(model)
        _rename(WORDS, "Gather", "elsewhere.table")(model)

    assert _complaints(weight_parity(sparse.model, edited(sparse.path, tmp_path, edit))) == [
        f"{WORDS}: embedding is missing from the graph, not a constant",
        f"{NORM}: norm weight is missing from the graph, not a constant",
        f"{NORM}: norm bias is missing from the graph, not a constant",
        "elsewhere.table: embedding is a table, not none in the PyTorch model",
        "elsewhere.norm: norm weight is a LayerNorm, not none in the PyTorch model",
    ]


def test_a_parameter_of_an_unknown_kind_is_not_passed_over(sparse: Exported) -> None:
    model = copy.deepcopy(sparse.model)
    model.bert.scaling = nn.Conv1d(1, 1, 1, bias=False)
    assert _complaints(weight_parity(model, sparse.path)) == [
        "bert.scaling: parameter is a weight, not one of a kind that can be compared"
    ]


def test_weights_that_were_not_lowered_to_integers_fail(sparse: Exported) -> None:
    parity = weight_parity(sparse.model, sparse.captured)
    assert len(parity.mismatches) == parity.compressed
    assert str(parity.mismatches[0]) == f"{QUERY}: storage is float32 values, not int8 codes"


def test_the_file_of_another_model_fails(sparse: Exported, mixed: Exported) -> None:
    assert not weight_parity(sparse.model, mixed.path).equal
    assert not weight_parity(mixed.model, sparse.path).equal


def test_a_comparison_of_nothing_is_not_equal() -> None:
    assert not WeightParity(0, 0, 0, 0, ()).equal


def test_a_model_without_the_graphs_layers_is_not_equal(sparse: Exported) -> None:
    assert not weight_parity(nn.Identity(), sparse.path).equal


def test_a_missing_file_is_named(sparse: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ArtefactError) as error:
        weight_parity(sparse.model, path)
    assert str(error.value) == (
        f"{path}: expected a readable ONNX model, found [Errno 2] No such file or directory: "
        f"'{path}'; export the model again or correct the path"
    )


def test_a_damaged_file_is_named(sparse: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(sparse.path.read_bytes()[:-100])
    with pytest.raises(ArtefactError, match="expected a readable ONNX model"):
        weight_parity(sparse.model, path)


def _parity(differing: int, what: str, suffix: str = "") -> WeightParity:
    mismatches = tuple(Mismatch(f"m{i}{suffix}", what, "1", "2") for i in range(differing))
    return WeightParity(12, 12, 12, quantizers=20, mismatches=mismatches)


@pytest.mark.parametrize(
    ("parity", "told"),
    [
        (_parity(9, "code"), "9 of its 12 linears differ, as in a file of another checkpoint"),
        (_parity(8, "code"), None),  # two thirds
        (
            _parity(20, "scale", ".input_quantizer"),
            "20 of its 20 activation scales differ, as in a file of another checkpoint",
        ),
        (_parity(12, "scale"), None),  # of weights: one wrong formula reaches all of them
        (_parity(0, "code"), None),
    ],
)
def test_a_file_of_another_checkpoint_is_told_from_a_fault(
    parity: WeightParity, told: str | None
) -> None:
    assert parity.foreign == told
