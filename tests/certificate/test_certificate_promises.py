"""What a recipe promises of each encoder GEMM, read from the structure of the model."""

from collections.abc import Mapping
from typing import Any

import pytest

from nxmi_export.certificate.promises import LinearPromise, Promises, promises_of
from nxmi_export.compression import insert_quantizers
from nxmi_export.recipe import Pattern, Placement, Recipe, Scheme
from tests.tiny_models import ARCHITECTURES, tiny_model


def promised(model_type: str = "bert", **recipe: Any) -> Promises:
    model = tiny_model(model_type)
    read = Recipe.from_mapping(recipe, source="recipe")
    insert_quantizers(model, read)
    return promises_of(model, read.placement)


def by_name(promises: Promises) -> Mapping[str, LinearPromise]:
    return {each.module.removeprefix(f"{each.block}."): each for each in promises.linears[:6]}


def test_the_sparse_placement_promises_int8_outputs_everywhere() -> None:
    promises = promised(placement="sparse")
    assert len(promises.linears) == 12
    assert all(each.int8_output and each.is_quantized for each in promises.linears)
    assert all(each.quantized for each in promises.attentions)


@pytest.mark.parametrize(
    ("placement", "attention"), [(Placement.LINEAR, False), (Placement.ATTENTION, True)]
)
def test_other_placements_promise_none(placement: Placement, attention: bool) -> None:
    promises = promised(placement=placement.value)
    assert not any(each.int8_output for each in promises.linears)
    assert {each.quantized for each in promises.attentions} == {attention}


def test_a_dense_linear_promises_nothing_and_unmakes_its_neighbours_promises() -> None:
    overrides = {"*.0.attention.self.key": "dense", "*.0.output.dense": "dense"}
    promises = promised(placement="sparse", overrides=overrides)
    linears = by_name(promises)
    assert linears["attention.self.key"].scheme == Scheme()
    # Its attention stays float, and so do the outputs that only that attention reads.
    assert not promises.attentions[0].quantized
    assert not linears["attention.self.query"].int8_output
    # The GELU's output is quantized for the second linear alone.
    assert not linears["intermediate.dense"].int8_output
    assert linears["attention.output.dense"].int8_output
    qkv = "bert.encoder.layer.{}.attention.self.{}"
    assert promises.merged == (
        (qkv.format(0, "query"), qkv.format(0, "value")),
        tuple(qkv.format(1, name) for name in ("query", "key", "value")),
    )


def test_the_shape_is_what_the_product_has() -> None:
    up = by_name(promised())["intermediate.dense"]
    assert (up.inputs, up.outputs) == (32, 64)


@pytest.mark.parametrize(
    ("pattern", "implied"),
    [("2:4", True), ("1:4", True), ("1:2", True), ("2:8", True), ("4:8", False), ("3:4", False)],
)
def test_sparse_kernels_are_claimed_for_what_implies_two_of_four(
    pattern: str, implied: bool
) -> None:
    keep, group = map(int, pattern.split(":"))
    scheme = Scheme(pattern=Pattern(keep=keep, group=group), bits=8)
    linear = LinearPromise("a.b", "a", scheme, 64, 64, int8_output=True)
    assert linear.is_two_of_four is implied


def test_a_model_without_a_recipe_promises_nothing() -> None:
    promises = promises_of(tiny_model(), None)
    assert {each.scheme for each in promises.linears} == {Scheme()}
    assert promises.merged == ()


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_has_blocks_with_a_common_name(model_type: str) -> None:
    promises = promised(model_type, placement="sparse")
    names = {each.block for each in (*promises.linears, *promises.attentions)}
    assert len(names) == len(promises.attentions)
    for each in (*promises.linears, *promises.attentions):
        assert each.module.startswith(f"{each.block}.")
        assert each.block != each.module
