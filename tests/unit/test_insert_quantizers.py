from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from nxmi_export.compression import CompressedLinear, compressed_linears, insert_quantizers
from nxmi_export.compression.attention import ATTENTION, SOFTMAX_SCALE
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.errors import NxmiError, RecipeError, UnsupportedWeight
from nxmi_export.recipe import Component, Placement, Recipe, Scheme
from tests.tiny_models import (
    ARCHITECTURES,
    compressed_model,
    logits_of,
    tiny_model,
    toy_batch,
)

DENSE, INT8, PRUNED = Scheme(), Scheme.parse("int8"), Scheme.parse("2:4")
BLOCK = "bert.encoder.layer"

# Names relative to a block, in the order in which PyTorch lists them.
LINEAR = [
    "attention.self.query.input_quantizer",
    "attention.output.dense.input_quantizer",
    "intermediate.dense.input_quantizer",
    "output.dense.input_quantizer",
]
ATTENTION_VALUES = [
    "attention.self.query.input_quantizer",
    "attention.self.query.output_quantizer",
    "attention.self.key.output_quantizer",
    "attention.self.value.output_quantizer",
    "attention.self.softmax_quantizer",
    "attention.output.dense.input_quantizer",
    "intermediate.dense.input_quantizer",
    "output.dense.input_quantizer",
]
SPARSE = [
    "attention.self.query.output_quantizer",
    "attention.self.key.output_quantizer",
    "attention.self.value.output_quantizer",
    "attention.self.softmax_quantizer",
    "attention.output.dense.input_quantizer",
    "attention.output.dense.output_quantizer",
    "attention.output.LayerNorm.output_quantizer",
    "output.dense.input_quantizer",
    "output.dense.output_quantizer",
]


def _values(model: torch.nn.Module) -> list[str]:
    """Names of the activation quantizers, each once, however many modules share it."""
    named = model.named_modules()
    return [name for name, module in named if isinstance(module, ActivationQuantizer)]


def _inserted(recipe: Recipe, **changes: Any) -> PreTrainedModel:
    model = tiny_model(**changes)
    insert_quantizers(model, recipe)
    return model


def _refusal(kind: type[NxmiError], model: PreTrainedModel, recipe: Recipe) -> str:
    with pytest.raises(kind) as caught:
        insert_quantizers(model, recipe)
    return str(caught.value)


def test_linear_placement_quantizes_the_inputs_of_linears() -> None:
    model = _inserted(Recipe(placement=Placement.LINEAR))
    assert _values(model) == [f"{BLOCK}.{i}.{name}" for i in (0, 1) for name in LINEAR]


def test_attention_placement_adds_the_inputs_of_the_attention_matmuls() -> None:
    model = _inserted(Recipe(placement=Placement.ATTENTION))
    assert _values(model) == [f"{BLOCK}.{i}.{name}" for i in (0, 1) for name in ATTENTION_VALUES]


def test_sparse_placement_adds_every_output_and_both_inputs_of_residual_additions() -> None:
    model = _inserted(Recipe(placement=Placement.SPARSE))
    assert _values(model) == [
        "bert.embeddings.LayerNorm.output_quantizer",
        *(f"{BLOCK}.0.{name}" for name in SPARSE),
        f"{BLOCK}.0.output.LayerNorm.output_quantizer",
        # The output of the last block is read by the pooler alone, which is not quantized.
        *(f"{BLOCK}.1.{name}" for name in SPARSE),
    ]


@pytest.mark.parametrize("placement", [Placement.LINEAR, Placement.ATTENTION])
def test_query_key_and_value_share_the_quantizer_of_their_input(placement: Placement) -> None:
    linears = compressed_linears(_inserted(Recipe(placement=placement)))
    for block in (f"{BLOCK}.0", f"{BLOCK}.1"):
        inputs = {
            id(linears[f"{block}.attention.self.{name}"].input_quantizer)
            for name in ("query", "key", "value")
        }
        assert len(inputs) == 1


def test_every_encoder_linear_carries_a_weight_quantizer_and_nothing_else_does() -> None:
    model = _inserted(Recipe())
    names = [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ]
    assert list(compressed_linears(model)) == [f"{BLOCK}.{i}.{n}" for i in (0, 1) for n in names]
    assert all(linear.weight_quantizer for linear in compressed_linears(model).values())
    assert not isinstance(model.get_submodule("bert.pooler.dense"), CompressedLinear)
    assert not isinstance(model.get_submodule("classifier"), CompressedLinear)


def test_a_pattern_alone_quantizes_no_value() -> None:
    model = _inserted(Recipe(default=PRUNED))
    assert _values(model) == []
    assert all(linear.weight_quantizer is None for linear in compressed_linears(model).values())
    assert len(compressed_linears(model)) == 12


@pytest.mark.parametrize("part", [Component.QUERY, Component.KEY, Component.VALUE])
@pytest.mark.parametrize("placement", [Placement.ATTENTION, Placement.SPARSE])
def test_a_block_with_a_float_query_key_or_value_keeps_a_float_attention(
    part: Component, placement: Placement
) -> None:
    model = _inserted(Recipe(default=INT8, schemes={part: DENSE}, placement=placement))
    inside = [name for name in _values(model) if ".attention.self." in name]
    assert not [name for name in inside if "output_quantizer" in name or "softmax" in name]


def test_one_block_may_stay_dense() -> None:
    model = _inserted(Recipe(overrides={f"{BLOCK}.0.*": DENSE}))
    assert _values(model) == [
        f"{BLOCK}.0.output.LayerNorm.output_quantizer",
        *(f"{BLOCK}.1.{name}" for name in SPARSE),
    ]


def test_the_softmax_scale_is_fixed_and_all_others_wait_for_calibration() -> None:
    model = _inserted(Recipe())
    for name in _values(model):
        scale = model.get_submodule(name).scale
        assert isinstance(scale, torch.Tensor)
        if name.endswith("softmax_quantizer"):
            assert scale.item() == pytest.approx(SOFTMAX_SCALE)
        else:
            assert scale.isnan()
    assert logits_of(model, toy_batch()).isnan().all()


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_dense_recipe_leaves_the_logits_bit_for_bit(model_type: str) -> None:
    model, feeds = tiny_model(model_type), toy_batch(model_type)
    before = logits_of(model, feeds)
    insert_quantizers(model, Recipe(default=DENSE))
    assert model.config._attn_implementation == ATTENTION
    assert torch.equal(logits_of(model, feeds), before)
    assert compressed_linears(model) == {}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_pattern_gives_the_logits_of_the_projected_weights(model_type: str) -> None:
    model = compressed_model(model_type=model_type, recipe=Recipe(default=PRUNED))
    dense = tiny_model(model_type)
    dense.load_state_dict(model.state_dict())
    feeds = toy_batch(model_type)
    assert torch.equal(logits_of(model, feeds), logits_of(dense, feeds))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@pytest.mark.parametrize("placement", list(Placement))
def test_every_architecture_runs_quantized_near_its_float_model(
    model_type: str, placement: Placement
) -> None:
    recipe = Recipe(default=INT8, placement=placement)
    model, feeds = compressed_model(model_type=model_type, recipe=recipe), toy_batch(model_type)
    floating, quantized = logits_of(tiny_model(model_type), feeds), logits_of(model, feeds)
    error = (quantized - floating).abs().max()
    assert 0 < error < 0.2 * floating.abs().max() + 0.05


def test_values_match_between_the_module_names_of_bert_and_distilbert() -> None:
    bert = _values(compressed_model())
    model = tiny_model("distilbert")
    insert_quantizers(model, Recipe())
    assert len(_values(model)) == len(bert)


def test_training_mode_is_kept() -> None:
    model = tiny_model().train()
    insert_quantizers(model, Recipe())
    assert all(linear.training for linear in compressed_linears(model).values())


def test_a_width_that_the_pattern_does_not_divide_is_refused_before_any_edit() -> None:
    model = tiny_model(intermediate_size=37)
    assert _refusal(UnsupportedWeight, model, Recipe()) == (
        f"{BLOCK}.0.output.dense: expected an input width that is a multiple of 4 for 2:4, found "
        "width 37; give the layer another scheme under overrides in the recipe"
    )
    assert compressed_linears(model) == {}
    assert model.config._attn_implementation == "eager"


def test_the_remedy_for_a_width_works() -> None:
    recipe = Recipe(overrides={"*.layer.?.output.dense": INT8})
    assert len(compressed_linears(_inserted(recipe, intermediate_size=37))) == 12


def test_an_override_that_matches_nothing_is_refused() -> None:
    model = tiny_model()
    assert _refusal(RecipeError, model, Recipe(overrides={"encoder.layers.*": INT8})) == (
        "override 'encoder.layers.*': expected a pattern that matches a linear layer of the "
        "encoder, found no match; module names look like "
        "'bert.encoder.layer.0.attention.self.query'"
    )
    assert compressed_linears(model) == {}
