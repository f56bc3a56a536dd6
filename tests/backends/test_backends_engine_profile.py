import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxmi_export.backends.tensorrt_engine import FixedSides, Shape, ShapeProfile
from nxmi_export.errors import ShapeError


def test_text_becomes_three_shapes() -> None:
    profile = ShapeProfile.parse("min=1x8,opt=8x64,max=32x128", position_limit=512)
    assert (profile.min, profile.opt, profile.max) == (Shape(1, 8), Shape(8, 64), Shape(32, 128))


def test_spaces_are_allowed() -> None:
    spaced = ShapeProfile.parse(" min=1x8, opt=8x64, max=32x128 ", position_limit=512)
    assert spaced == ShapeProfile.parse("min=1x8,opt=8x64,max=32x128", position_limit=512)


sides = st.lists(st.integers(1, 4096), min_size=3, max_size=3).map(sorted)


@given(batches=sides, sequences=sides)
def test_a_profile_reads_back_what_it_prints(batches: list[int], sequences: list[int]) -> None:
    low, middle, high = map(Shape, batches, sequences)
    profile = ShapeProfile(low, middle, high, position_limit=4096)
    assert ShapeProfile.parse(str(profile), position_limit=4096) == profile


@pytest.mark.parametrize(
    ("position_limit", "text"),
    [
        (512, "min=1x1,opt=32x128,max=64x512"),
        (64, "min=1x1,opt=32x64,max=64x64"),
        (8192, "min=1x1,opt=32x128,max=64x512"),
    ],
)
def test_the_default_fits_the_model_and_fused_attention(position_limit: int, text: str) -> None:
    assert str(ShapeProfile.default(position_limit=position_limit)) == text


@pytest.mark.parametrize(
    ("fixed", "text"),
    [
        (FixedSides(2, 16), "min=2x16,opt=2x16,max=2x16"),
        (FixedSides(batch=1), "min=1x1,opt=1x64,max=1x64"),
        (FixedSides(sequence=48), "min=1x48,opt=32x48,max=64x48"),
    ],
)
def test_the_default_keeps_what_the_graph_fixes(fixed: FixedSides, text: str) -> None:
    profile = ShapeProfile.default(position_limit=64, fixed=fixed)
    assert str(profile) == text
    assert profile.keeps(fixed)


@pytest.mark.parametrize(
    "text", ["", "8x64", "1x8,8x64,32x128", "min=1x8,opt=8x64", "min=1x8,opt=8,max=32x128"]
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ShapeError) as caught:
        ShapeProfile.parse(text, position_limit=512)
    assert str(caught.value) == (
        "shapes: expected the form min=1x8,opt=32x128,max=64x512 (batch x sequence), "
        f"found {text!r}; name all three shapes in this order"
    )


@pytest.mark.parametrize(
    ("text", "side", "found"),
    [
        ("min=2x8,opt=1x8,max=4x8", "batch", "min 2, opt 1, max 4"),
        ("min=1x8,opt=1x16,max=1x12", "sequence", "min 8, opt 16, max 12"),
        ("min=0x8,opt=1x8,max=1x8", "batch", "min 0, opt 1, max 1"),
    ],
)
def test_shapes_out_of_order_are_refused(text: str, side: str, found: str) -> None:
    with pytest.raises(ShapeError) as caught:
        ShapeProfile.parse(text, position_limit=512)
    assert str(caught.value) == (
        f"shapes {text}: expected 1 <= min <= opt <= max for the {side}, found {found}; "
        "write them in order, as in min=1x8,opt=32x128,max=64x512"
    )


def test_a_sequence_beyond_the_position_table_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        ShapeProfile.parse("min=1x8,opt=8x64,max=32x129", position_limit=128)
    assert str(caught.value) == (
        "shapes min=1x8,opt=8x64,max=32x129: expected at most 128 tokens, the model's position "
        "table, found a maximum of 129; lower the maximum sequence to 128 or less"
    )
