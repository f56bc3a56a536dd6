"""What each architecture has of its own: where its values are quantized, and what it refuses."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression import checkpoint_of, compressed_linears, insert_quantizers, restore
from nxmi_export.compression.encoder_layout import SUPPORTED, layout_of
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.compression.restore import check_deployable
from nxmi_export.errors import RecipeError, UnsupportedModel
from nxmi_export.recipe import ActivationSettings, Component, Placement, Recipe, Scheme
from tests.tiny_models import (
    ARCHITECTURES,
    PLACEMENTS,
    POSITION_LIMIT,
    compressed_model,
    logits_of,
    tiny_model,
    toy_batch,
)

DENSE, INT8 = Scheme(), Scheme.parse("int8")
ALBERT = "albert.encoder.albert_layer_groups.0.albert_layers.0"
MOBILE = "mobilebert.encoder.layer.0"
MODERN = "model.layers"

# Architecture and what its configuration changes; each wires its values in another way.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ARCHITECTURES},
    "electra, embeddings of full width": ("electra", {"embedding_size": 32}),
    "albert, two groups": ("albert", {"num_hidden_layers": 4, "num_hidden_groups": 2}),
    "albert, two inner blocks": ("albert", {"inner_group_num": 2}),
    "albert, nothing repeated": ("albert", {"num_hidden_groups": 2}),
    "mobilebert, one FFN": ("mobilebert", {"num_feedforward_networks": 1}),
    "mobilebert, no bottleneck": ("mobilebert", {"use_bottleneck": False}),
    "mobilebert, narrow attention": ("mobilebert", {"use_bottleneck_attention": True}),
    "mobilebert, LayerNorm": ("mobilebert", {"normalization_type": "layer_norm"}),
    "mobilebert, wide query": (
        "mobilebert",
        {"key_query_shared_bottleneck": False, "intra_bottleneck_size": 32},
    ),
    "modernbert, biases": (
        "modernbert",
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
    ),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return VARIANTS[request.param]


def _inserted(model_type: str, recipe: Recipe | None = None, **changes: Any) -> PreTrainedModel:
    model = tiny_model(model_type, **changes)
    insert_quantizers(model, recipe or Recipe())
    return model


def _quantized_at(model: torch.nn.Module) -> set[str]:
    """Names of the activation quantizers, each by its first one."""
    named = model.named_modules()
    return {name for name, module in named if isinstance(module, ActivationQuantizer)}


def _reads(model: PreTrainedModel, feeds: dict[str, Tensor]) -> Iterator[tuple[str, bool]]:
    """Every call of a compressed linear in one run: its name, and whether it multiplies INT8."""
    rounded: list[Tensor] = []
    calls: list[tuple[str, Tensor]] = []
    for module in model.modules():
        if isinstance(module, ActivationQuantizer):
            module.register_forward_hook(lambda _, arguments, output: rounded.append(output))
    linears = compressed_linears(model)
    for name, linear in linears.items():
        linear.register_forward_pre_hook(lambda _, x, name=name: calls.append((name, x[0])))
    logits_of(model, feeds)
    for name, x in calls:
        own = linears[name].input_quantizer is not None
        yield name, own or any(torch.equal(x, each) for each in rounded)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_quantized_linear_reads_an_int8_value(
    variant: tuple[str, dict[str, Any]], placement: Placement
) -> None:
    model_type, changes = variant
    model = compressed_model(placement, model_type=model_type, **changes)
    reads = list(_reads(model, toy_batch(model_type)))
    assert [name for name, is_int8 in reads if not is_int8] == []
    assert {name for name, _ in reads} == compressed_linears(model).keys()


def test_every_quantizer_is_run(variant: tuple[str, dict[str, Any]]) -> None:
    model_type, changes = variant
    model = compressed_model(model_type=model_type, **changes)
    scales = {name: model.get_buffer(f"{name}.scale") for name in _quantized_at(model)}
    assert [name for name, scale in scales.items() if not scale.isfinite()] == []


def test_linears_are_listed_in_order_of_execution(variant: tuple[str, dict[str, Any]]) -> None:
    model_type, changes = variant
    model = compressed_model(model_type=model_type, **changes)
    executed = dict.fromkeys(name for name, _ in _reads(model, toy_batch(model_type)))
    assert list(compressed_linears(model)) == list(executed)


def test_the_layout_names_linears_and_components(variant: tuple[str, dict[str, Any]]) -> None:
    model_type, changes = variant
    model = tiny_model(model_type, **changes)
    for block in layout_of(model):
        assert {part for parts in block.linears.values() for part in parts} == set(Component)
        assert all(isinstance(model.get_submodule(name), torch.nn.Linear) for name in block.linears)
        read = [name for value in block.values for name in value.readers]
        assert sorted(read) == sorted(block.linears)
        assert set(block.outputs) <= block.linears.keys()


def test_a_restored_model_gives_the_same_logits(variant: tuple[str, dict[str, Any]]) -> None:
    model_type, changes = variant
    model = compressed_model(model_type=model_type, **changes)
    checkpoint = checkpoint_of(model, recipe=Recipe(), tokenizer={}, provenance={})
    feeds = toy_batch(model_type)
    assert torch.equal(logits_of(restore(checkpoint), feeds), logits_of(model, feeds))


def test_gradients_reach_every_compressed_weight(variant: tuple[str, dict[str, Any]]) -> None:
    model_type, changes = variant
    model = compressed_model(model_type=model_type, **changes).train()
    model(**toy_batch(model_type)).logits.square().sum().backward()
    gradients = {name: each.weight.grad for name, each in compressed_linears(model).items()}
    assert [name for name, each in gradients.items() if each is None or not each.any()] == []


def test_all_supported_architectures_are_tested() -> None:
    assert sorted(ARCHITECTURES) == sorted(SUPPORTED)


def test_small_electra_quantizes_its_widened_embeddings() -> None:
    assert "electra.embeddings_project.output_quantizer" in _quantized_at(_inserted("electra"))
    full = _quantized_at(_inserted("electra", embedding_size=32))
    assert "electra.embeddings.LayerNorm.output_quantizer" in full
    assert "electra.embeddings_project" not in compressed_linears(_inserted("electra"))


def test_albert_has_one_set_of_weights_and_quantizers_for_all_repetitions() -> None:
    model = _inserted("albert", num_hidden_layers=3)
    assert len(compressed_linears(model)) == 6
    assert _quantized_at(model) == {
        "albert.encoder.embedding_hidden_mapping_in.output_quantizer",
        f"{ALBERT}.full_layer_layer_norm.output_quantizer",
        f"{ALBERT}.attention.query.output_quantizer",
        f"{ALBERT}.attention.key.output_quantizer",
        f"{ALBERT}.attention.value.output_quantizer",
        f"{ALBERT}.attention.softmax_quantizer",
        f"{ALBERT}.attention.dense.input_quantizer",
        f"{ALBERT}.attention.dense.output_quantizer",
        f"{ALBERT}.attention.LayerNorm.output_quantizer",
        f"{ALBERT}.ffn_output.input_quantizer",
        f"{ALBERT}.ffn_output.output_quantizer",
    }


def test_an_albert_that_repeats_nothing_has_no_quantizer_behind_its_last_norm() -> None:
    names = _quantized_at(_inserted("albert", num_hidden_groups=2))
    norms = {name for name in names if "full_layer_layer_norm" in name}
    assert norms == {f"{ALBERT}.full_layer_layer_norm.output_quantizer"}


def test_mobilebert_quantizes_what_its_residual_additions_read() -> None:
    names = _quantized_at(_inserted("mobilebert", num_hidden_layers=1))
    assert names == {
        "mobilebert.embeddings.LayerNorm.output_quantizer",
        f"{MOBILE}.bottleneck.input.LayerNorm.output_quantizer",
        f"{MOBILE}.bottleneck.attention.LayerNorm.output_quantizer",
        f"{MOBILE}.attention.self.query.output_quantizer",
        f"{MOBILE}.attention.self.key.output_quantizer",
        f"{MOBILE}.attention.self.value.output_quantizer",
        f"{MOBILE}.attention.self.softmax_quantizer",
        f"{MOBILE}.attention.output.dense.input_quantizer",
        f"{MOBILE}.attention.output.dense.output_quantizer",
        f"{MOBILE}.attention.output.LayerNorm.output_quantizer",
        f"{MOBILE}.ffn.0.output.dense.input_quantizer",
        f"{MOBILE}.ffn.0.output.dense.output_quantizer",
        f"{MOBILE}.ffn.0.output.LayerNorm.output_quantizer",
        f"{MOBILE}.output.dense.input_quantizer",
        f"{MOBILE}.output.dense.output_quantizer",
        f"{MOBILE}.output.LayerNorm.output_quantizer",
        f"{MOBILE}.output.bottleneck.dense.output_quantizer",
    }


def test_linears_that_read_one_value_share_its_quantizer_across_modules() -> None:
    linears = compressed_linears(_inserted("mobilebert", Recipe(placement=Placement.LINEAR)))
    narrow = linears[f"{MOBILE}.bottleneck.input.dense"].input_quantizer
    assert narrow is linears[f"{MOBILE}.bottleneck.attention.dense"].input_quantizer
    assert narrow is linears[f"{MOBILE}.attention.self.value"].input_quantizer
    query = linears[f"{MOBILE}.attention.self.query"].input_quantizer
    assert query is linears[f"{MOBILE}.attention.self.key"].input_quantizer
    assert query is not narrow


def test_bottlenecks_take_the_default_scheme_and_overrides() -> None:
    recipe = Recipe(
        default=DENSE,
        schemes=dict.fromkeys(Component, INT8),
        overrides={f"{MOBILE}.output.bottleneck.dense": Scheme.parse("2:4")},
    )
    linears = compressed_linears(_inserted("mobilebert", recipe, num_hidden_layers=1))
    bottlenecks = {name: str(each.scheme) for name, each in linears.items() if "bottleneck" in name}
    assert bottlenecks == {f"{MOBILE}.output.bottleneck.dense": "2:4"}
    assert len(linears) == 8 + 1  # both FFNs are ffn_up and ffn_down


@pytest.mark.parametrize("placement", [Placement.ATTENTION, Placement.SPARSE])
def test_modernbert_quantizes_query_key_and_value_inside_the_attention(
    placement: Placement,
) -> None:
    model = compressed_model(placement, model_type="modernbert")
    names = _quantized_at(model)
    inside = {f"{MODERN}.0.attn.{part}_quantizer" for part in ("query", "key", "value", "softmax")}
    assert inside <= names
    assert (f"{MODERN}.0.attn.Wqkv.output_quantizer" in names) == (placement is Placement.SPARSE)


def test_modernbert_keeps_its_residual_stream_in_float() -> None:
    names = _quantized_at(_inserted("modernbert"))
    assert not [name for name in names if "norm" in name]
    assert {name for name in names if name.endswith("output_quantizer")} == {
        f"{MODERN}.{block}.{linear}.output_quantizer"
        for block in (0, 1)
        for linear in ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")
    }


def test_components_of_a_fused_linear_must_agree() -> None:
    model = tiny_model("modernbert")
    with pytest.raises(RecipeError) as caught:
        insert_quantizers(model, Recipe(default=INT8, schemes={Component.VALUE: DENSE}))
    assert str(caught.value) == (
        "model.layers.0.attn.Wqkv: expected one scheme for query, key and value, which are one "
        "linear in this encoder, found int8 for query, int8 for key and dense for value; give "
        "query, key and value the same scheme"
    )
    assert compressed_linears(model) == {}


def test_an_override_speaks_for_all_components_of_a_fused_linear() -> None:
    recipe = Recipe(schemes={Component.VALUE: DENSE}, overrides={"*.Wqkv": INT8})
    linears = compressed_linears(_inserted("modernbert", recipe))
    assert str(linears["model.layers.1.attn.Wqkv"].scheme) == "int8"


@pytest.mark.parametrize(
    ("architecture", "model_type", "found"),
    [
        (
            "DebertaV2",
            "deberta-v2",
            "DeBERTa-v2, which adds position scores inside an attention of its own",
        ),
        (
            "ConvBert",
            "convbert",
            "ConvBERT, which mixes its attention with convolutions made at run time",
        ),
        ("MPNet", "mpnet", "MPNet, which adds a position bias inside an attention of its own"),
        ("Ernie", "ernie", "a model of type 'ernie'"),
    ],
)
def test_an_unsupported_architecture_is_refused_by_name(
    architecture: str, model_type: str, found: str
) -> None:
    config = getattr(transformers, f"{architecture}Config")(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=96,
        max_position_embeddings=POSITION_LIMIT,
    )
    model = getattr(transformers, f"{architecture}ForSequenceClassification")(config)
    with pytest.raises(UnsupportedModel) as caught:
        insert_quantizers(model, Recipe())
    assert str(caught.value) == (
        f"{model_type}: expected an encoder built on transformers' attention functions (albert, "
        "bert, camembert, distilbert, electra, mobilebert, modernbert, roberta, xlm-roberta), "
        f"found {found}; export it without a recipe, or start from one of these"
    )


def test_dynamic_activations_run_train_and_restore() -> None:
    recipe = Recipe(
        placement=Placement.LINEAR,
        activations=ActivationSettings(mode="dynamic", learned=False),
    )
    model = compressed_model(recipe=recipe)
    feeds = toy_batch()
    expected = logits_of(model, feeds)
    assert expected.isfinite().all()
    checkpoint = checkpoint_of(model, recipe=recipe, tokenizer={}, provenance={})
    restored = restore(checkpoint)
    assert torch.equal(logits_of(restored, feeds), expected)
    restored.train()(**feeds).logits.sum().backward()
    assert all(each.weight.grad is not None for each in compressed_linears(restored).values())


def test_only_static_activations_are_deployable() -> None:
    check_deployable(compressed_model(), "model.pt")
    check_deployable(tiny_model(), "model.pt")
    dynamic = ActivationSettings(mode="dynamic", learned=False)
    unquantized = Recipe(
        default=Scheme.parse("2:4"), placement=Placement.LINEAR, activations=dynamic
    )
    check_deployable(compressed_model(recipe=unquantized), "model.pt")
