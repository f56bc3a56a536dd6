import copy

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.compression import calibrate, checkpoint_of, compress, insert_quantizers, restore
from nxmi_export.compression.scales import freeze_scales, learn_scales, set_quantizing
from nxmi_export.compression.tables import QuantizedEmbedding, quantized_tables
from nxmi_export.compression.training.quantization import as_deployed
from nxmi_export.errors import CheckpointMismatch
from nxmi_export.recipe import DistillationSettings, Recipe, TrainingSettings, WeightSettings
from nxmi_export.search.superset import Superset, naive_model
from nxmi_export.search.variants import variants
from passes import numerics
from tests.tiny_models import (
    ARCHITECTURES,
    compressed_model,
    logits_of,
    tiny_model,
    toy_batch,
    toy_data,
)

TABLES_ONLY = Recipe.from_mapping(
    {"default": "dense", "embeddings": "int8", "placement": "linear"}, source="test"
)
WORDS = "bert.embeddings.word_embeddings"
IDS = torch.tensor([[3, 0, 3], [7, 95, 1]])


def _table(model: PreTrainedModel, name: str = WORDS) -> QuantizedEmbedding:
    table = model.get_submodule(name)
    assert isinstance(table, QuantizedEmbedding)
    return table


def _checkpoint(model: PreTrainedModel, recipe: Recipe) -> CompressedCheckpoint:
    return checkpoint_of(model, recipe=recipe, tokenizer={}, provenance={})


@pytest.fixture
def model() -> PreTrainedModel:
    return compressed_model(recipe=TABLES_ONLY)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_embedding_table_is_quantized_and_nothing_else(model_type: str) -> None:
    dense = tiny_model(model_type)
    wanted = {name for name, module in dense.named_modules() if isinstance(module, nn.Embedding)}
    model = compressed_model(model_type=model_type, recipe=TABLES_ONLY)
    assert quantized_tables(model).keys() == wanted != set()
    assert not torch.equal(
        logits_of(model, toy_batch(model_type)), logits_of(dense, toy_batch(model_type))
    )


def test_a_recipe_leaves_tables_dense_unless_it_asks() -> None:
    assert quantized_tables(compressed_model()) == {}


def test_a_table_runs_as_its_codes_times_the_scales_of_their_rows(model: PreTrainedModel) -> None:
    table = _table(model)
    weight, scale = table.weight.detach().numpy(), table.weight_quantizer.scale.numpy()
    codes = numerics.quantize(weight, scale, numerics.INT8_WEIGHT, axis=0)
    assert (table.codes().numpy() == codes).all()
    rounded = numerics.dequantize(codes, scale, axis=0)
    assert (table(IDS).detach().numpy() == rounded[IDS.numpy()]).all()


def test_every_row_reaches_the_largest_code(model: PreTrainedModel) -> None:
    largest = _table(model).codes().abs().amax(1)
    padding = _table(model).padding_idx
    assert padding == 0
    assert largest[padding] in (0, 127)  # zeros as transformers makes it
    assert (largest[1:] == 127).all()


@pytest.mark.parametrize(("granularity", "groups"), [("tensor", 1), ("rows:24", 4)])
def test_rows_share_scales_as_the_recipe_says(granularity: str, groups: int) -> None:
    weights = {"int8_granularity": granularity}
    recipe = Recipe.from_mapping(TABLES_ONLY.as_mapping() | {"weights": weights}, source="test")
    scale = _table(compressed_model(recipe=recipe)).weight_quantizer.scale
    assert len(scale) == 96
    assert len(scale.unique()) == groups


def test_the_graph_of_gradients_rounds_as_inference_does(model: PreTrainedModel) -> None:
    table = _table(model)
    with torch.inference_mode():
        expected = table(IDS)
    assert torch.equal(table(IDS), expected)


def test_only_rows_that_were_looked_up_get_gradients(model: PreTrainedModel) -> None:
    table = _table(model)
    table(IDS).sum().backward()
    assert table.weight.grad is not None
    rows = table.weight.grad.abs().sum(1).nonzero().flatten()
    assert rows.tolist() == [1, 3, 7, 95]  # 0 is padding, whose row is not trained
    assert torch.equal(table.weight.grad[3], torch.full((32,), 2.0))  # read twice


def test_switched_off_a_table_is_what_it_was(model: PreTrainedModel) -> None:
    set_quantizing(model, False)
    assert torch.equal(logits_of(model, toy_batch()), logits_of(tiny_model(), toy_batch()))


def test_scales_of_tables_are_never_learned(model: PreTrainedModel) -> None:
    assert TABLES_ONLY.weights.learned
    learn_scales(model)
    assert [q for q in quantized_tables(model).values() if q.weight_quantizer.log_step] == []


def test_scales_follow_a_table_that_is_trained_and_no_other(model: PreTrainedModel) -> None:
    table = _table(model)
    before = table.weight_quantizer.scale.clone()
    table.train()
    table.weight.requires_grad_(False).mul_(2)
    table(IDS)
    assert torch.equal(table.weight_quantizer.scale, before)
    table.weight.requires_grad_(True)
    table(IDS)
    assert torch.equal(table.weight_quantizer.scale[1:], 2 * before[1:])


def test_a_measurement_sees_scales_as_if_training_ended_there(model: PreTrainedModel) -> None:
    table = _table(model)
    before = table.weight_quantizer.scale.clone()
    with torch.no_grad():
        table.weight.mul_(2)
    with as_deployed(model):
        assert torch.equal(table.weight_quantizer.scale[1:], 2 * before[1:])
    assert torch.equal(table.weight_quantizer.scale, before)
    freeze_scales(model)
    assert torch.equal(table.weight_quantizer.scale[1:], 2 * before[1:])


def test_a_checkpoint_restores_the_tables(model: PreTrainedModel) -> None:
    restored = restore(_checkpoint(model, TABLES_ONLY))
    assert quantized_tables(restored).keys() == quantized_tables(model).keys()
    assert torch.equal(logits_of(restored, toy_batch()), logits_of(model, toy_batch()))


def test_scales_without_the_recipe_that_asks_for_them_are_refused(model: PreTrainedModel) -> None:
    dense = TABLES_ONLY.model_copy(update={"embeddings": "dense"})
    with pytest.raises(CheckpointMismatch, match="found 3 unknown weights"):
        restore(_checkpoint(model, dense))


@pytest.mark.parametrize("trained", ["encoder", "all"])
def test_training_moves_tables_only_where_the_recipe_trains_them(trained: str) -> None:
    recipe = TABLES_ONLY.model_copy(
        update={
            "training": TrainingSettings.model_validate(
                {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "trained": trained}
            ),
            "distillation": DistillationSettings(logits=0.0, hidden=0.0),
        }
    )
    model = tiny_model()
    dense = copy.deepcopy(model.get_submodule(WORDS).weight)
    compress(model, toy_data(32), recipe)
    table = _table(model)
    assert torch.equal(table.weight, dense) == (trained == "encoder")
    scales = numerics.symmetric_scales(table.weight.detach().numpy(), numerics.INT8_WEIGHT, axis=0)
    assert (table.weight_quantizer.scale.numpy() == scales).all()


def test_a_search_scores_its_candidates_with_rounded_tables() -> None:
    base = Recipe.from_mapping({"embeddings": "int8", "training": {"batch_size": 8}}, source="test")
    dense, data = tiny_model(), toy_data(48)
    name = "bert.encoder.layer.0.intermediate.dense"
    scheme = base.default
    prepared = variants(dense, {name: (scheme,)}, base, data, "magnitude")
    superset = Superset(dense, base, prepared, data)
    superset.use({name: scheme})
    recipe = base.model_copy(update={"default": type(scheme)(), "overrides": {name: scheme}})
    naive = naive_model(dense, recipe, prepared, superset.activation_scales)
    logits = logits_of(superset.model, toy_batch())
    assert logits.isfinite().all()
    assert torch.equal(logits, logits_of(naive, toy_batch()))


def test_calibration_fits_tables_by_the_settings_of_weights() -> None:
    fitted = {}
    for method in ("max", "mse"):
        weights = WeightSettings.model_validate({"calibration": method})
        model = tiny_model()
        insert_quantizers(model, TABLES_ONLY.model_copy(update={"weights": weights}))
        calibrate(model, toy_data(16), batches=1, batch_size=16)
        fitted[method] = _table(model).weight_quantizer.scale
    assert (fitted["mse"] <= fitted["max"]).all()
    assert (fitted["mse"] < fitted["max"]).any()
