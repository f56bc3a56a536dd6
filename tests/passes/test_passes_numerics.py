"""The one definition of quantization and sparsity, held to onnxruntime and to its own promises."""

import itertools
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from passes.errors import InvalidGroups, InvalidScale, InvalidWeight
from passes.numerics import (
    INT4_WEIGHT,
    INT8,
    INT8_WEIGHT,
    UINT8,
    Float32Array,
    dequantize,
    group_violations,
    keep_mask,
    project,
    quantize,
    symmetric_scales,
)

floats = st.floats(width=32, allow_nan=False)
scales = st.floats(min_value=2.0**-149, max_value=2.0**127, width=32)
unhurried = settings(deadline=None)  # the first example also builds a session
halves = st.integers(-300, 300).map(lambda n: n / 2)  # with scale 1 or 2: every tie


@cache
def session(integer: str, axis: int | None) -> onnxruntime.InferenceSession:
    """QuantizeLinear and DequantizeLinear of onnxruntime, both results as outputs."""
    shape = "" if axis is None else "[C]"
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    pair (float[R,C] x, float{shape} s, {integer}{shape} z)
      => ({integer}[R,C] codes, float[R,C] y) {{
      codes = QuantizeLinear<axis: int = 1>(x, s, z)
      y = DequantizeLinear<axis: int = 1>(codes, s, z)
    }}"""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    model = onnx.parser.parse_model(text).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def assert_equals_onnxruntime(
    x: Float32Array, scale: Float32Array, zero_point: int, axis: int | None
) -> None:
    limits, integer = (INT8, np.int8) if zero_point == 0 else (UINT8, np.uint8)
    feeds = {"x": x, "s": scale, "z": np.full(scale.shape, zero_point, integer)}
    codes, values = session(np.dtype(integer).name, axis).run(None, feeds)
    ours = quantize(x, scale, limits, zero_point=zero_point, axis=axis)
    assert ours.dtype == codes.dtype
    np.testing.assert_array_equal(ours, codes)
    back = dequantize(ours, scale, zero_point=zero_point, axis=axis)
    np.testing.assert_array_equal(back.view(np.int32), values.view(np.int32))


@unhurried
@given(
    x=hnp.arrays(np.float32, (3, 21), elements=floats),
    scale=scales,
    zero_point=st.sampled_from([0, 128]),
)
def test_any_float_gets_the_code_and_value_of_onnxruntime(
    x: Float32Array, scale: float, zero_point: int
) -> None:
    assert_equals_onnxruntime(x, np.array(scale, np.float32), zero_point, None)


@unhurried
@given(
    x=hnp.arrays(np.float32, (2, 19), elements=halves),
    scale=st.sampled_from([1.0, 2.0, 0.5]),
    zero_point=st.sampled_from([0, 128]),
)
def test_ties_go_to_even_as_in_onnxruntime(x: Float32Array, scale: float, zero_point: int) -> None:
    assert_equals_onnxruntime(x, np.array(scale, np.float32), zero_point, None)


@unhurried
@given(
    x=hnp.arrays(np.float32, (4, 5), elements=floats),
    scale=hnp.arrays(np.float32, 5, elements=scales),
)
def test_each_channel_has_its_own_scale_as_in_onnxruntime(
    x: Float32Array, scale: Float32Array
) -> None:
    assert_equals_onnxruntime(x, scale, 0, 1)


def test_quantize_divides_rounds_half_to_even_and_saturates() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 1e30, -1e30, -128.5], np.float32)
    codes = quantize(x, np.array(1, np.float32))
    assert codes.tolist() == [0, 2, 2, 0, -2, 126, 127, 127, -128, -128]


def test_four_bit_codes_stay_within_seven() -> None:
    x = np.array([-9, -7, 7, 100], np.float32)
    codes = quantize(x, np.array(1, np.float32), INT4_WEIGHT)
    assert codes.tolist() == [-7, -7, 7, 7]


@unhurried
@given(hnp.arrays(np.float32, (3, 8), elements=floats.filter(np.isfinite)))
def test_weights_at_their_own_scale_never_saturate(weight: Float32Array) -> None:
    scale = symmetric_scales(weight, axis=0)
    wide = quantize(weight, scale, INT8, axis=0)
    np.testing.assert_array_equal(quantize(weight, scale, INT8_WEIGHT, axis=0), wide)


def test_a_dead_channel_gets_the_positive_scale_one() -> None:
    weight = np.array([[0, 0], [0, -12.7]], np.float32)
    np.testing.assert_allclose(symmetric_scales(weight, axis=0), [1, 0.1], rtol=1e-6)


def test_a_channel_too_small_for_a_normal_scale_counts_as_dead() -> None:
    assert symmetric_scales(np.full((1, 4), 1e-40, np.float32), axis=0).tolist() == [1.0]


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (0.0, "0.0"),
        (-0.5, "-0.5"),
        (np.nan, "nan"),
        (np.inf, "inf"),
    ],
)
def test_a_scale_that_cannot_divide_is_refused(bad: float, found: str) -> None:
    scale = np.array([1, bad, 1], np.float32)
    with pytest.raises(InvalidScale) as error:
        quantize(np.zeros((3, 2), np.float32), scale, axis=0)
    assert str(error.value) == (
        f"scale: expected positive finite scales, found {found} at index 1 (1 of 3 invalid); "
        "recalibrate; a dead channel takes any positive scale"
    )


def test_a_scale_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InvalidScale) as error:
        quantize(np.zeros((3, 2), np.float32), np.ones(2, np.float32), axis=0)
    assert str(error.value) == (
        "scale: expected 3 values, one per channel, found 2; check the axis of the quantizer"
    )


def test_nan_has_no_code() -> None:
    with pytest.raises(InvalidWeight) as error:
        quantize(np.array([1, np.nan], np.float32), np.array(1, np.float32))
    assert str(error.value) == (
        "quantize: expected numbers, found 1 NaN among 2 values; "
        "find the step of the training or calibration that produced them"
    )


def test_an_infinite_weight_has_no_scale() -> None:
    with pytest.raises(InvalidWeight) as error:
        symmetric_scales(np.array([1, np.inf], np.float32))
    assert str(error.value) == (
        "symmetric_scales: expected finite numbers, found 1 NaN or infinite among 2 values; "
        "find the step of the training that produced them"
    )


def test_a_nan_weight_has_no_projection() -> None:
    with pytest.raises(InvalidWeight) as error:
        project(np.array([1, np.nan, 0, 0], np.float32), 2, 4)
    assert str(error.value) == (
        "project: expected finite weights, found 1 NaN or infinite among 4; "
        "find the step of the training that produced them"
    )


@unhurried
@given(hnp.arrays(np.float32, (2, 8), elements=st.floats(-100, 100, width=32)))
def test_no_other_choice_of_two_in_four_is_nearer(weight: Float32Array) -> None:
    exact = weight.astype(np.float64)
    kept = (project(weight, 2, 4).astype(np.float64).reshape(-1, 4) ** 2).sum(axis=1)
    for choice in itertools.combinations(range(4), 2):
        assert (kept >= (exact.reshape(-1, 4)[:, choice] ** 2).sum(axis=1)).all()


@unhurried
@given(hnp.arrays(np.float32, (2, 8), elements=floats.filter(np.isfinite)))
def test_projecting_twice_is_projecting_once(weight: Float32Array) -> None:
    once = project(weight, 2, 4)
    np.testing.assert_array_equal(project(once, 2, 4), once)


@unhurried
@given(hnp.arrays(np.float32, (2, 8), elements=floats.filter(np.isfinite)))
def test_a_projection_violates_nothing(weight: Float32Array) -> None:
    assert len(group_violations(project(weight, 2, 4), 2, 4, axis=1)) == 0


def test_equal_magnitudes_go_to_the_lowest_index() -> None:
    weight = np.array([[-1, 1, 1, -1, 0, 2, 2, 2]], np.float32)
    assert project(weight, 2, 4).tolist() == [[-1, 1, 0, 0, 0, 2, 2, 0]]


def test_equal_magnitudes_go_to_the_lowest_index_in_wide_groups_too() -> None:
    """Sorting algorithms that are unstable only show it from about 16 elements on."""
    weight = np.random.default_rng(0).integers(-2, 3, (64, 32)).astype(np.float32)
    for row, mask in zip(weight, keep_mask(weight, 16, 32), strict=True):
        first = sorted(range(32), key=lambda index: -abs(row[index]))[:16]  # stable by promise
        assert set(np.flatnonzero(mask)) == set(first)


def test_the_lowest_int8_is_the_largest_magnitude() -> None:
    weight = np.array([-128, 127, 126, 1], np.int8)
    assert keep_mask(weight, 1, 4).tolist() == [True, False, False, False]


def test_violations_name_each_group_by_its_place() -> None:
    codes = np.zeros((8, 3), np.int8)
    codes[[4, 5, 7], 2] = 1
    codes[[0, 1], 0] = 1
    assert group_violations(codes, 2, 4, axis=0).tolist() == [[1, 2]]
    assert group_violations(codes.T, 2, 4, axis=1).tolist() == [[2, 1]]


def test_the_smallest_float_is_a_non_zero() -> None:
    codes = np.array([[1, 1e-45, 1, -0.0]], np.float32)
    assert group_violations(codes, 2, 4, axis=1).tolist() == [[0, 0]]


def test_an_axis_that_is_no_multiple_of_the_group_is_refused() -> None:
    with pytest.raises(InvalidGroups) as error:
        project(np.zeros((2, 37), np.float32), 2, 4)
    assert str(error.value) == (
        "2:4: expected an axis whose length is a multiple of 4, found length 37; "
        "exclude the layer in the recipe"
    )


@pytest.mark.parametrize(("keep", "group"), [(0, 4), (4, 4), (5, 4), (-1, 4)])
def test_a_pattern_that_drops_nothing_or_everything_is_refused(keep: int, group: int) -> None:
    with pytest.raises(InvalidGroups) as error:
        group_violations(np.zeros((1, 4), np.int8), keep, group, axis=1)
    assert str(error.value) == (
        f"{keep}:{group}: expected a pattern that keeps at least one and drops at least one of "
        f'each group, found keep {keep} of {group}; write a pattern such as "2:4"'
    )
