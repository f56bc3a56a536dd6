from itertools import combinations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nxmi_export.compression import compressed_linears, insert_quantizers, sparsity
from nxmi_export.compression.sparsity import apply_mask, magnitude_masks, pattern_mask, project
from nxmi_export.recipe import Component, Pattern, Recipe, Scheme
from passes import numerics
from tests.tiny_models import tiny_model

Floats = NDArray[np.float32]
# Few different values, so that ties and zeros are the rule.
ELEMENTS = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, 1e-45]) | st.floats(
    -10, 10, width=32, allow_subnormal=True
)


@st.composite
def weights(draw: st.DrawFn, *, widest: int = 32) -> tuple[Floats, Pattern]:
    group = draw(st.integers(2, widest))
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
    projected = torch.from_numpy(weight.copy())
    apply_mask(projected, mask)
    expected = numerics.project(weight, pattern.keep, pattern.group)
    np.testing.assert_array_equal(projected.numpy().view(np.int32), expected.view(np.int32))


@given(weights(widest=8))
def test_no_support_of_its_size_is_nearer(case: tuple[Floats, Pattern]) -> None:
    weight, pattern = case
    projected = torch.from_numpy(weight.copy())
    apply_mask(projected, pattern_mask(projected, pattern))
    squares = np.square(weight.reshape(-1, pattern.group), dtype=np.float64)
    supports = [list(kept) for kept in combinations(range(pattern.group), pattern.keep)]
    nearest = np.min([squares.sum(1) - squares[:, kept].sum(1) for kept in supports], axis=0)
    difference = np.subtract(weight, projected.numpy(), dtype=np.float64)
    distances = np.square(difference).reshape(squares.shape).sum(1)
    # sums of the same squares in another order
    np.testing.assert_allclose(distances, nearest, rtol=1e-12, atol=1e-12 * squares.max())


@given(weights())
def test_every_group_keeps_exactly_as_many_as_the_pattern_says(
    case: tuple[Floats, Pattern],
) -> None:
    weight, pattern = case
    mask = pattern_mask(torch.from_numpy(weight), pattern)
    assert (mask.reshape(-1, pattern.group).sum(-1) == pattern.keep).all()


@given(weights())
def test_projecting_twice_changes_nothing(case: tuple[Floats, Pattern]) -> None:
    weight, pattern = torch.from_numpy(case[0].copy()), case[1]
    apply_mask(weight, pattern_mask(weight, pattern))
    once = weight.clone()
    apply_mask(weight, pattern_mask(weight, pattern))
    assert torch.equal(weight.view(torch.int32), once.view(torch.int32))


@pytest.mark.parametrize(
    ("weight", "kept"),
    [
        ([1.0, -1.0, 1.0, -1.0], [True, True, False, False]),
        ([1.0, 2.0, -1.0, 1.0], [True, True, False, False]),
        ([0.0, -0.0, 0.0, 0.0], [True, True, False, False]),
        ([1.0, 2.0, 2.0, 2.0], [False, True, True, False]),
        ([0.0, 3.0, -0.0, 0.0], [True, True, False, False]),
    ],
)
def test_ties_go_to_the_lowest_index(weight: list[float], kept: list[bool]) -> None:
    assert pattern_mask(torch.tensor([weight]), Pattern(keep=2, group=4)).tolist() == [kept]


@pytest.mark.parametrize("text", ["2:4", "3:5", "16:32"])
def test_a_mask_does_not_depend_on_how_much_is_compared_at_once(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = Scheme.parse(text).pattern
    assert pattern is not None
    weight = torch.randn(96, pattern.group * 5, generator=torch.Generator().manual_seed(0))
    whole = pattern_mask(weight, pattern)
    monkeypatch.setattr(sparsity, "_AT_ONCE", 7 * pattern.group)
    assert torch.equal(pattern_mask(weight, pattern), whole)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_mask_keeps_bits_and_leaves_positive_zeros(kind: torch.dtype) -> None:
    weight = torch.tensor([[-1.5, 2.0, -0.0, -torch.inf, torch.nan, 3.0]], dtype=kind)
    apply_mask(weight, torch.tensor([[False, True, True, False, False, True]]))
    assert weight.tolist() == [[0.0, 2.0, 0.0, 0.0, 0.0, 3.0]]
    assert torch.signbit(weight).tolist() == [[False, False, True, False, False, False]]


def test_projecting_linears_prunes_those_with_a_pattern_alone() -> None:
    model = tiny_model()
    recipe = Recipe(default=Scheme.parse("int8"), schemes={Component.FFN_UP: Scheme.parse("1:4")})
    insert_quantizers(model, recipe)
    linears = compressed_linears(model)
    before = {name: linear.weight.detach().clone() for name, linear in linears.items()}
    project(linears)
    for name, linear in linears.items():
        if linear.scheme.pattern is None:
            assert torch.equal(linear.weight, before[name])
        else:
            assert (linear.weight.reshape(-1, 4).count_nonzero(1) == 1).all()


@pytest.mark.parametrize("scheme", ["2:4", "2:4+int8"])
def test_masks_belong_to_the_linears_with_a_pattern(scheme: str) -> None:
    model = tiny_model()
    recipe = Recipe(default=Scheme.parse("int8"), schemes={Component.FFN_UP: Scheme.parse(scheme)})
    insert_quantizers(model, recipe)
    masks = magnitude_masks(compressed_linears(model))
    assert list(masks) == [f"bert.encoder.layer.{i}.intermediate.dense" for i in (0, 1)]
