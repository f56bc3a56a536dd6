"""Judging one quantizer on equal inputs: what is a rounding tie, and what only looks like one."""

import numpy as np
import pytest

from nxmi_export.parity.judge import CodeDifference, Side, judge, judge_codes
from nxmi_export.parity.noise import rounding_noise

WIDEST = 64
LARGEST = 100.0  # steps: the last value of every example here
NOISE = rounding_noise(WIDEST, LARGEST)


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
        "0.4 apart where summation order accounts for 0.00038; so are 1 of 2 values"
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
    assert rounding_noise(4 * WIDEST, LARGEST) == pytest.approx(2 * NOISE)
    assert rounding_noise(WIDEST, 3 * LARGEST) == pytest.approx(3 * NOISE)


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
