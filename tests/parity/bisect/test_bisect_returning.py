"""Layers of a real model returned, its exclusion recipe read back, saved and exported."""

from pathlib import Path

import pytest
import torch
from tiny_models import (
    compressed_model,
    logits_of,
    tiny_model,
    tiny_tokenizer,
    toy_batch,
    toy_data,
)

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.checkpoint import read_checkpoint, read_tokenizer_files, write_checkpoint
from nxmi_export.compression import checkpoint_of, insert_quantizers, restore
from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.errors import CheckpointMismatch, OutputError, UsageError
from nxmi_export.parity import run_rung
from nxmi_export.parity.bisect import (
    Certainty,
    Goal,
    ReturningLayers,
    exclusion_recipe,
    smallest_set,
    write_exclusions,
)
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.workflow.export import ExportRequest, export

LAYER = "bert.encoder.layer.{}"
DOWN = LAYER.format(1) + ".output.dense"
QUERY = LAYER.format(0) + ".attention.self.query"
PLACEMENTS = ["linear", "attention", "sparse"]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_returning_nothing_is_the_compressed_model_bit_for_bit(placement: str) -> None:
    model, recipe = (
        compressed_model(placement),
        Recipe.from_mapping({"placement": placement}, source="test"),
    )
    same = ReturningLayers(model, recipe).model(())
    feeds = toy_batch()
    assert torch.equal(logits_of(same, feeds), logits_of(model, feeds))


@pytest.mark.parametrize("model_type", ["bert", "albert", "distilbert", "modernbert"])
def test_returning_everything_to_dense_is_the_dense_model_bit_for_bit(model_type: str) -> None:
    dense = tiny_model(model_type)
    model = compressed_model(model_type=model_type)
    returning = ReturningLayers(model, Recipe(), dense)
    feeds = toy_batch(model_type)
    assert torch.equal(logits_of(returning.model(returning.layers), feeds), logits_of(dense, feeds))


def test_a_layer_returned_to_float_keeps_its_pruned_weight() -> None:
    model = compressed_model()
    returned = ReturningLayers(model, Recipe()).model({DOWN}).get_submodule(DOWN)
    assert type(returned) is torch.nn.Linear
    assert torch.equal(returned.weight, compressed_linears(model)[DOWN].weight)
    assert int((returned.weight == 0).sum()) == returned.weight.numel() // 2


def test_a_layer_returned_to_dense_has_the_dense_weight_and_others_their_own() -> None:
    dense, model = tiny_model(), compressed_model()
    mixed = ReturningLayers(model, Recipe(), dense).model({DOWN})
    assert torch.equal(mixed.get_submodule(DOWN).weight, dense.get_submodule(DOWN).weight)
    assert torch.equal(mixed.get_submodule(QUERY).weight, model.get_submodule(QUERY).weight)


def test_quantizers_are_those_that_the_recipe_inserts() -> None:
    mixed = ReturningLayers(compressed_model(), Recipe()).model({QUERY})
    attention = mixed.get_submodule(LAYER.format(0) + ".attention.self")
    assert not hasattr(attention, "softmax_quantizer")  # attention is INT8 as a whole or not at all
    assert hasattr(mixed.get_submodule(LAYER.format(1) + ".attention.self"), "softmax_quantizer")


def test_the_compressed_model_is_left_alone() -> None:
    model, feeds = compressed_model(), toy_batch()
    before = logits_of(model, feeds)
    ReturningLayers(model, Recipe(), tiny_model()).model({DOWN, QUERY})
    assert torch.equal(logits_of(model, feeds), before)


def test_a_layer_that_is_not_compressed_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        ReturningLayers(compressed_model(), Recipe()).model({"classifier"})
    assert str(error.value) == (
        "returning layers: expected compressed layers of this model, found classifier; "
        f"layers look like {QUERY!r}"
    )


def test_the_dense_model_of_another_size_is_refused() -> None:
    with pytest.raises(CheckpointMismatch) as error:
        ReturningLayers(compressed_model(), Recipe(), tiny_model(intermediate_size=32))
    name = LAYER.format(0) + ".intermediate.dense.weight"
    assert str(error.value) == (
        f"the dense model's {name}: expected the shape (64, 32) of the compressed model's, "
        "found (32, 32); pass the model that was compressed"
    )


def test_exclusions_win_over_overrides_that_match_too() -> None:
    recipe = Recipe.from_mapping(
        {"overrides": {"*.output.dense": "int8", DOWN: "int4"}}, source="test"
    )
    excluded = exclusion_recipe(recipe, [DOWN])
    assert list(excluded.overrides) == [DOWN, "*.output.dense"]
    assert excluded.overrides[DOWN] == Scheme()
    model = tiny_model()
    insert_quantizers(model, excluded)
    assert DOWN not in compressed_linears(model)
    assert str(compressed_linears(model)[LAYER.format(0) + ".output.dense"].scheme) == "int8"


def _broken(damaged: str) -> tuple[ReturningLayers, Goal]:
    """A model whose layer `damaged` destroys its logits, and the goal of the sound one's."""
    model = compressed_model()
    compressed_linears(model)[damaged].weight_quantizer.scale.mul_(40)
    return ReturningLayers(model, Recipe()), Goal(reference=0.0, tolerance=0.05)


def test_the_damaged_layer_of_a_real_model_is_found_and_exported_without(tmp_path: Path) -> None:
    sound, feeds = logits_of(compressed_model(), toy_batch()), toy_batch()
    returning, goal = _broken(DOWN)

    def metric(layers: frozenset[str]) -> float:
        return -float((logits_of(returning.model(layers), feeds) - sound).abs().mean())

    found = smallest_set(returning.layers, metric, goal, budget=60)
    assert (found.layers, found.certainty) == ((DOWN,), Certainty.SMALLEST)

    recipe = exclusion_recipe(Recipe(), found.layers)
    path = tmp_path / "exclusions.yaml"
    write_exclusions(path, recipe, found)
    assert Recipe.from_yaml(path) == recipe
    first = path.read_text().splitlines()[0]
    assert first == "# 1 of 12 layers stay dense, found by bisection."

    mixed = returning.model(found.layers)
    tiny_tokenizer().save_pretrained(tmp_path)
    tokenizer = read_tokenizer_files(tmp_path)
    saved = tmp_path / "model.pt"
    write_checkpoint(saved, checkpoint_of(mixed, recipe=recipe, tokenizer=tokenizer, provenance={}))
    assert torch.equal(
        logits_of(restore(read_checkpoint(str(saved))), feeds), logits_of(mixed, feeds)
    )
    artefact = export(ExportRequest(str(saved), tmp_path / "artefact"))
    assert artefact.manifest.linears[DOWN].storage == "dense"
    assert artefact.manifest.linears[QUERY].storage == "2:4+int8"


def test_a_task_metric_is_a_metric() -> None:
    model, data = compressed_model(), toy_data(16)
    returning = ReturningLayers(model, Recipe(), tiny_model())

    def accuracy(layers: frozenset[str]) -> float:
        runner = TorchRunner(returning.model(layers), tuple(data.padding))
        return run_rung(runner, data, batch_tokens=256).primary

    dense = accuracy(frozenset(returning.layers))
    found = smallest_set(returning.layers, accuracy, Goal(dense, 0.0), budget=40)
    assert found.restored
    assert found.metric >= dense


def test_a_recipe_is_not_written_where_there_is_no_folder(tmp_path: Path) -> None:
    found = smallest_set(["a"], lambda layers: 1.0, Goal(1.0, 0.0), budget=2)
    path = tmp_path / "absent" / "recipe.yaml"
    with pytest.raises(OutputError):
        write_exclusions(path, Recipe(), found)
    assert not path.exists()
