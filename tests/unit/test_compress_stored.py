"""The table of compression ratios in the method's own terms, on weights as they are stored."""

import pytest
import torch

from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.workflow.compress.stored import (
    StoredLayer,
    compression_of,
    magnitude_masks_of,
    moved_of,
    stored_layers,
)
from tests.tiny_models import compressed_model, tiny_model

# scheme, bits a weight without and with the index of every kept value, and what both save
TABLE = [
    ("2:4", 8, 9, 0.75, 0.71875),
    ("int8", 8, 8, 0.75, 0.75),
    ("int4", 4, 4, 0.875, 0.875),
    ("2:4+int8", 4, 5, 0.875, 0.84375),
    ("2:4+int4", 2, 3, 0.9375, 0.90625),
]


def layer(pattern: str | None, bits: int, weights: int = 64) -> StoredLayer:
    return StoredLayer(pattern, bits, inputs=weights, outputs=1, zeros=0.0, mask_moved=None)


@pytest.mark.parametrize(("scheme", "bits", "bits_in_all", "nominal", "with_metadata"), TABLE)
def test_a_model_of_one_scheme(
    scheme: str, bits: int, bits_in_all: int, nominal: float, with_metadata: float
) -> None:
    model = compressed_model(recipe=Recipe(default=Scheme.parse(scheme)))
    layers = stored_layers(model)
    assert len(layers) == 12
    assert {each.nominal_bits for each in layers.values()} == {bits}
    assert {each.bits_with_metadata for each in layers.values()} == {bits_in_all}
    saved = compression_of(layers.values())
    assert (saved.nominal, saved.with_metadata) == (nominal, with_metadata)


def test_a_dense_model_saves_nothing() -> None:
    layers = stored_layers(tiny_model())
    assert {(each.pattern, each.bits, each.zeros) for each in layers.values()} == {(None, 32, 0.0)}
    assert compression_of(layers.values()).nominal == 0


def test_layers_count_by_their_weights() -> None:
    large, small = layer("2:4", 8, weights=96), layer(None, 32, weights=32)
    saved = compression_of([large, small])
    assert saved.nominal == 0.875 * 96 / 128
    assert saved.with_metadata == 0.84375 * 96 / 128


def test_a_layer_that_the_recipe_leaves_dense_counts_in_full() -> None:
    recipe = Recipe.from_mapping({"schemes": {"ffn_up": "dense"}}, source="test")
    layers = stored_layers(compressed_model(recipe=recipe))
    dense = {name for name, each in layers.items() if each.bits == 32}
    assert dense == {f"bert.encoder.layer.{index}.intermediate.dense" for index in range(2)}
    # 2 of the 8 parts of a block: four of 32 x 32 and two of 32 x 64
    assert compression_of(layers.values()).nominal == 0.875 * 6 / 8


def test_shared_layers_count_once() -> None:
    names = stored_layers(compressed_model(model_type="albert"))
    assert len(names) == 6


@pytest.mark.parametrize(
    ("pattern", "bits"), [("1:2", 1), ("1:4", 2), ("4:8", 3), ("2:16", 4), ("8:32", 5), ("1:3", 2)]
)
def test_an_index_counts_the_places_of_its_group(pattern: str, bits: int) -> None:
    keep, group = map(int, pattern.split(":"))
    assert layer(pattern, 8).bits_with_metadata == pytest.approx((8 + bits) * keep / group)


def test_a_mask_is_compared_with_that_of_magnitude() -> None:
    recipe = Recipe.from_mapping({"schemes": {"ffn_up": "int8"}}, source="test")
    dense, model = tiny_model().state_dict(), compressed_model(recipe=recipe)
    name = "bert.encoder.layer.0.output.dense"  # 32 x 64
    still = stored_layers(model, magnitude_masks_of(model, dense))
    assert {each.mask_moved for each in still.values()} == {None, 0.0}
    assert still["bert.encoder.layer.0.intermediate.dense"].mask_moved is None
    assert moved_of(still.values()) == 0
    # in one of 512 groups the smallest of the dense weights becomes the largest
    smallest = dense[f"{name}.weight"][0, :4].abs().argmin()
    dense[f"{name}.weight"][0, smallest] = 9.0
    moved = stored_layers(model, magnitude_masks_of(model, dense))
    assert moved[name].mask_moved == 2 / (32 * 64)
    patterned = [each.weights for each in moved.values() if each.mask_moved is not None]
    assert moved_of(moved.values()) == pytest.approx(2 / sum(patterned))
    assert moved_of(stored_layers(model).values()) is None


def test_what_is_stored_counts_and_not_what_was_asked_for() -> None:
    model = compressed_model(recipe=Recipe(default=Scheme.parse("2:4+int4")))
    name = "bert.encoder.layer.0.output.dense"
    weight = model.get_parameter(f"{name}.weight")
    with torch.no_grad():
        weight[0, :4] = weight.abs().max()  # four of four
    assert stored_layers(model)[name].pattern is None
    assert compression_of(stored_layers(model).values()).nominal < 0.9375
