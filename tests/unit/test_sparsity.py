import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nxmi_export.compression import compressed_linears, insert_quantizers
from nxmi_export.compression.sparsity import magnitude_masks, pattern_mask
from nxmi_export.recipe import Component, Pattern, Recipe, Scheme
from passes import numerics
from tests.tiny_models import tiny_model

Floats = NDArray[np.float32]
# Few different values, so that ties and zeros are the rule.
ELEMENTS = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, 1e-45]) | st.floats(
    -10, 10, width=32, allow_subnormal=True
)


@st.composite
def weights(draw: st.DrawFn) -> tuple[Floats, Pattern]:
    group = draw(st.integers(2, 8))
    pattern = Pattern(keep=draw(st.integers(1, group - 1)), group=group)
    shape = draw(st.integers(1, 4)), group * draw(st.integers(1, 4))
    return draw(hnp.arrays(np.float32, shape, elements=ELEMENTS)), pattern


@given(weights())
def test_projection_is_that_of_the_passes(case: tuple[Floats, Pattern]) -> None:
    weight, pattern = case
    mask = pattern_mask(torch.from_numpy(weight), pattern)
    np.testing.assert_array_equal(
        mask.numpy(), numerics.keep_mask(weight, pattern.keep, pattern.group)
    )
    projected = torch.where(mask, torch.from_numpy(weight), 0).numpy()
    expected = numerics.project(weight, pattern.keep, pattern.group)
    np.testing.assert_array_equal(projected.view(np.int32), expected.view(np.int32))


@given(weights())
def test_every_group_keeps_exactly_as_many_as_the_pattern_says(
    case: tuple[Floats, Pattern],
) -> None:
    weight, pattern = case
    mask = pattern_mask(torch.from_numpy(weight), pattern)
    assert (mask.reshape(-1, pattern.group).sum(-1) == pattern.keep).all()


@given(weights())
def test_projecting_twice_changes_nothing(case: tuple[Floats, Pattern]) -> None:
    weight, pattern = torch.from_numpy(case[0]), case[1]
    once = weight * pattern_mask(weight, pattern)
    assert torch.equal(once * pattern_mask(once, pattern), once)


def test_ties_go_to_the_lowest_index() -> None:
    mask = pattern_mask(torch.tensor([[1.0, -1.0, 1.0, -1.0]]), Pattern(keep=2, group=4))
    assert mask.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("scheme", ["2:4", "2:4+int8"])
def test_masks_belong_to_the_linears_with_a_pattern(scheme: str) -> None:
    model = tiny_model()
    recipe = Recipe(default=Scheme.parse("int8"), schemes={Component.FFN_UP: Scheme.parse(scheme)})
    insert_quantizers(model, recipe)
    masks = magnitude_masks(compressed_linears(model))
    assert list(masks) == [f"bert.encoder.layer.{i}.intermediate.dense" for i in (0, 1)]
