"""Judging one quantizer on equal inputs: what is a rounding tie, and what only looks like one."""

import numpy as np
import pytest

from nxmi_export.parity.judge import CodeDifference, Side, judge, judge_codes
from nxmi_export.parity.noise import (
    UNIT_ROUNDOFF,
    expected_ties,
    local_magnitudes,
    noise_near,
    rounding_noise,
    typical_noise,
)

WIDEST = 64
LARGEST = 100.0  # steps: the last value of every example here
NOISE = float(noise_near(WIDEST, np.array([0.0, LARGEST]))[0])  # at the first of two values


def _side(*ratios: float, codes: tuple[int, ...] | None = None) -> Side:
    array = np.array([*ratios, LARGEST], np.float32)
    rounded = np.clip(np.rint(array), -128, 127)
    return Side(array, rounded.astype(np.int16) if codes is None else np.array([*codes, 100]))


def test_equal_codes_from_equal_ratios_need_no_explanation() -> None:
    judgement = judge("norm", _side(1.2, -7.9), _side(1.2, -7.9), WIDEST)
    assert judgement.objection is None
    assert (judgement.differing, judgement.first, judgement.largest_gap) == (0, None, 0.0)


@pytest.mark.parametrize(
    ("below", "above", "codes"),
    [(2.4999, 2.5001, (2, 3)), (-1.5001, -1.4999, (-2, -1)), (0.5, 0.5001, (0, 1))],
)
def test_a_rounding_tie_is_explained(below: float, above: float, codes: tuple[int, int]) -> None:
    judgement = judge("norm", _side(4.0, below), _side(4.0, above), WIDEST)
    assert judgement.objection is None
    assert judgement.differing == 1
    expected = tuple(float(np.float32(ratio)) for ratio in (below, above))
    assert judgement.first == CodeDifference("norm", (1,), expected, codes)


def test_a_step_that_is_not_at_a_tie_is_not_explained() -> None:
    judgement = judge("norm", _side(2.3), _side(2.7), WIDEST)
    assert judgement.objection == (
        "norm at [0]: 2.299999952316284 and 2.700000047683716 steps have the codes 2 and 3, "
        "0.4 apart where summation order accounts for 0.00027; so are 1 of 2 values"
    )


def test_ratios_apart_are_objected_to_even_where_no_code_differs() -> None:
    judgement = judge("norm", _side(2.0, 1.0), _side(2.1, 1.0), WIDEST)
    assert judgement.differing == 0
    assert judgement.objection is not None


def test_a_gap_of_just_the_noise_is_allowed_and_of_twice_it_is_not() -> None:
    assert judge("norm", _side(0.0), _side(0.99 * NOISE), WIDEST).objection is None
    assert judge("norm", _side(0.0), _side(2.0 * NOISE), WIDEST).objection is not None


def test_codes_two_apart_are_not_explained_even_at_a_tie() -> None:
    sides = _side(2.5, codes=(2,)), _side(2.5, codes=(4,))
    assert judge("norm", *sides, WIDEST).objection == (
        "norm at [0]: 2.5 and 2.5 steps have the codes 2 and 4, which is no rounding tie"
    )


def test_a_quantizer_that_rounds_otherwise_is_not_explained() -> None:
    truncated = _side(2.9, codes=(2,))
    judgement = judge("norm", _side(2.9), truncated, WIDEST)
    assert judgement.objection is not None
    assert judgement.objection.endswith("the codes 3 and 2, which is no rounding tie")


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_ratio_that_is_no_number_is_not_explained(broken: float) -> None:
    sides = _side(1.0, codes=(1,)), _side(broken, codes=(1,))
    assert judge("norm", *sides, WIDEST).objection is not None
    assert judge("norm", *reversed(sides), WIDEST).objection is not None


def test_infinities_on_both_sides_are_not_explained() -> None:
    assert judge("norm", _side(np.inf), _side(np.inf), WIDEST).objection is not None


def test_one_absurd_value_does_not_excuse_the_others() -> None:
    sides = _side(1.0, 1e9, codes=(1, 127)), _side(1.2, 1e9, codes=(1, 127))
    assert judge("norm", *sides, WIDEST).objection is not None


def test_values_of_different_shapes_are_not_explained() -> None:
    judgement = judge("norm", _side(1.0), _side(1.0, 2.0), WIDEST)
    assert judgement.objection == "norm: the values have the shapes (2,) and (3,)"


def test_saturated_values_share_the_outermost_code() -> None:
    assert judge("norm", _side(400.0), _side(400.0001), WIDEST).differing == 0


def test_noise_grows_with_the_root_of_the_sum_and_with_the_value() -> None:
    noise = rounding_noise(WIDEST, LARGEST)
    assert rounding_noise(4 * WIDEST, LARGEST) == pytest.approx(2 * noise)
    assert rounding_noise(WIDEST, 3 * LARGEST) == pytest.approx(3 * noise)


def test_noise_of_a_base_sized_encoder_is_far_below_a_scale_one_percent_off() -> None:
    assert rounding_noise(3072, 127) == pytest.approx(0.0034, rel=0.02)


def test_codes_of_a_kernel_that_shows_no_ratios_are_judged_by_the_others() -> None:
    judgement = judge_codes("norm", _side(4.0, 2.4999), np.array([4, 3, 100]), WIDEST)
    assert judgement.objection is None
    assert judgement.differing == 1
    assert judgement.first is not None
    assert judgement.first.codes == (2, 3)
    assert str(judgement.first).startswith("norm at [1]: 2.4999")
    assert str(judgement.first).endswith(" steps have the codes 2 and 3")
    equal = judge_codes("norm", _side(4.0), np.array([4, 100]), WIDEST)
    assert (equal.differing, equal.first, equal.objection) == (0, None, None)


@pytest.mark.parametrize("code", [3, 0, -128])
def test_a_code_that_lies_at_no_tie_is_objected_to(code: int) -> None:
    judgement = judge_codes("norm", _side(2.3), np.array([code, 100]), WIDEST)
    assert judgement.objection == (
        f"norm at [0]: 2.299999952316284 steps have the codes 2 and {code}, which is no rounding "
        "tie"
    )


def test_codes_of_another_shape_are_objected_to() -> None:
    judgement = judge_codes("norm", _side(2.3), np.array([2, 1, 100]), WIDEST)
    assert judgement.objection == "norm: the values have the shapes (2,) and (3,)"


TOKENS, CHANNELS = 64, 256


def _encoder(outlier: float = 1.0) -> np.ndarray:
    """Ratios (tokens, channels) as an encoder has them, one channel `outlier` times the rest."""
    ratios = np.random.default_rng(0).normal(0, 20, (TOKENS, CHANNELS))
    ratios[:, 7] *= outlier
    return ratios.astype(np.float32)


def _sides(ratios: np.ndarray, moved: np.ndarray) -> tuple[Side, Side]:
    before, after = (each.astype(np.float32) for each in (ratios, moved))
    return tuple(  # type: ignore[return-value]
        Side(each, np.clip(np.rint(each), -128, 127).astype(np.int16)) for each in (before, after)
    )


def test_an_outlier_channel_does_not_excuse_the_other_channels() -> None:
    ratios = _encoder(outlier=100.0)
    moved = ratios.copy()
    moved[3, 11] += 0.02  # far below the noise of a value of 2 000, far above that of one of 20
    assert float(rounding_noise(9216, np.abs(ratios).max())) > 0.02
    before, after = _sides(ratios, moved)
    objection = judge("norm", before, after, 9216).objection
    assert objection is not None
    assert objection.startswith("norm at [3, 11]")


def test_an_outlier_channel_may_have_the_noise_of_its_own_size() -> None:
    ratios = _encoder(outlier=100.0)
    moved = ratios.copy()
    moved[:, 7] *= 1 + 20 * UNIT_ROUNDOFF
    assert judge("norm", *_sides(ratios, moved), 9216).objection is None


def test_a_token_of_large_values_keeps_its_noise_to_itself() -> None:
    magnitudes = local_magnitudes(np.array([[100.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))
    assert magnitudes[0, 1] == pytest.approx(100 / np.sqrt(2))
    assert magnitudes[2, 1] == pytest.approx(1.0)
    assert (local_magnitudes(np.array([np.inf, 3.0, -4.0])) >= [0, 3, 4]).all()


def test_values_that_all_move_a_little_are_no_noise() -> None:
    """Each gap alone would be: a factor of 1.00001 is a fifth of what a tail is allowed."""
    ratios = _encoder()
    before, after = _sides(ratios, ratios * np.float32(1.00001))
    assert judge("norm", before, after, 9216).objection == (
        "norm: the steps lie 7.1e-06 of their magnitude apart on average, where summation order "
        "accounts for 3.2e-06"
    )


def test_noise_of_the_usual_size_is_none_to_object_to() -> None:
    ratios = _encoder()
    noise = np.random.default_rng(1).normal(0, 8 * UNIT_ROUNDOFF, ratios.shape)
    moved = ratios + noise * local_magnitudes(ratios)
    assert judge("norm", *_sides(ratios, moved), 9216).objection is None


def test_padding_does_not_dilute_the_average() -> None:
    ratios = _encoder()
    before, after = (
        Side(np.pad(side.ratios, ((0, 960), (0, 0))), np.pad(side.codes, ((0, 960), (0, 0))))
        for side in _sides(ratios, ratios * np.float32(1.00001))
    )
    assert judge("norm", before, after, 9216).objection is not None


def test_codes_alone_may_tip_as_often_as_noise_tips_them() -> None:
    """Forty of them at ties to within what a tail may be, which noise would tip twice."""
    ratios = np.random.default_rng(2).normal(0, 20, (TOKENS, CHANNELS))
    near = np.argwhere(np.abs(ratios % 1 - 0.5) < 0.5)[:40]
    ratios[tuple(near.T)] = np.floor(ratios[tuple(near.T)]) + 0.5002
    before, _ = _sides(ratios, ratios)
    codes = before.codes.copy()
    codes[tuple(near.T)] -= 1
    objection = judge_codes("norm", before, codes, 9216).objection
    assert objection is not None
    assert objection.startswith("norm: 40 of 16384 codes differ, each at a rounding tie, where")
    one = before.codes.copy()
    one[tuple(near[0])] -= 1
    assert judge_codes("norm", before, one, 9216).objection is None


def test_a_value_at_a_tie_tips_half_of_the_time_and_one_far_from_it_never() -> None:
    assert expected_ties(64, np.array([2.5, 3.5])) == pytest.approx(1.0)
    assert expected_ties(64, np.array([2.0, 3.0])) == pytest.approx(0.0, abs=1e-12)
    assert expected_ties(64, np.array([np.inf, 0.0])) == pytest.approx(0.0, abs=1e-12)
    assert typical_noise(1) == 16 * UNIT_ROUNDOFF
