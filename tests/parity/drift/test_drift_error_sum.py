"""Streaming error statistics: those of the whole, however it is cut."""

import math

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from nxmi_export.parity.drift import ErrorSum, LargestError

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def _pair(seed: int = 0, shape: tuple[int, ...] = (12, 5, 3)) -> Pair:
    random = np.random.default_rng(seed)
    reference = random.normal(2.0, 3.0, shape).astype(np.float32)
    return reference, reference + random.normal(0.01, 0.1, shape).astype(np.float32)


def _sum(*parts: slice, pair: Pair, real: NDArray[np.bool_] | None = None) -> ErrorSum:
    total = ErrorSum()
    real = np.ones(pair[0].shape, bool) if real is None else real
    for part in parts:
        a, b = pair
        total.add(a[part], b[part], real[part], np.arange(len(a))[part])
    return total


def _facts(total: ErrorSum) -> tuple[float, ...]:
    return (total.values, total.mean, total.rms, total.relative_rms, total.cosine)


def test_statistics_are_those_of_the_definition() -> None:
    reference, candidate = (each.astype(np.float64) for each in _pair())
    errors = candidate - reference
    total = _sum(slice(None), pair=_pair())
    rms = np.sqrt(np.mean(errors**2))
    cosine = np.vdot(reference, candidate) / np.linalg.norm(reference) / np.linalg.norm(candidate)
    assert _facts(total) == pytest.approx(
        (180, errors.mean(), rms, rms / np.sqrt(np.mean(reference**2)), cosine), rel=1e-12
    )
    at = np.unravel_index(np.abs(errors).argmax(), errors.shape)
    assert total.largest is not None
    assert (total.largest.example, total.largest.position) == (at[0], at[1:])
    assert total.largest.error == np.abs(errors).max()


def test_batches_and_shards_add_up_to_the_whole() -> None:
    pair = _pair()
    whole = _sum(slice(None), pair=pair)
    batches = _sum(slice(0, 5), slice(5, 6), slice(6, 12), pair=pair)
    shard, other = _sum(slice(6, 12), pair=pair), _sum(slice(0, 6), pair=pair)
    shard.merge(other)
    for total in (batches, shard):
        assert _facts(total) == pytest.approx(_facts(whole), rel=1e-12)
        assert total.largest == whole.largest


def test_what_is_padding_is_not_counted() -> None:
    reference, candidate = _pair()
    real = np.ones(reference.shape, bool)
    real[:, 3:] = False
    candidate[:, 3:] = 1e9
    total = _sum(slice(None), pair=(reference, candidate), real=real)
    alone = _sum(slice(None), pair=(reference[:, :3], candidate[:, :3]))
    assert _facts(total) == _facts(alone)
    assert total.largest == alone.largest


def test_of_equal_errors_the_first_example_is_named_whatever_the_order() -> None:
    zeros, ones = np.zeros((4, 2), np.float32), np.ones((4, 2), np.float32)
    total = _sum(slice(2, 4), slice(0, 2), pair=(zeros, ones))
    assert total.largest == LargestError(1.0, 0, (0,), 0.0, 1.0)


def test_a_value_that_turns_infinite_is_counted_and_left_out_of_the_sums() -> None:
    reference, candidate = _pair()
    clean = _sum(slice(1, 12), pair=(reference, candidate))
    candidate[0] = np.inf
    total = _sum(slice(None), pair=(reference, candidate))
    assert (total.values, total.non_finite) == (180, 15)
    assert _facts(total)[1:] == pytest.approx(_facts(clean)[1:], rel=1e-12)
    assert total.largest is not None
    assert total.largest.error == math.inf


def test_the_same_infinity_on_both_sides_is_no_difference() -> None:
    infinite = np.full((1, 2), -np.inf, np.float32)
    total = _sum(slice(None), pair=(infinite, infinite))
    assert (total.values, total.non_finite) == (2, 0)
    assert total.largest is not None
    assert total.largest.error == 0


def test_zeros_agree_and_nothing_is_no_number() -> None:
    zeros = np.zeros((2, 3), np.float32)
    total = _sum(slice(None), pair=(zeros, zeros))
    assert (total.relative_rms, total.cosine) == (0.0, 1.0)
    nothing = ErrorSum()
    assert nothing.largest is None
    assert all(math.isnan(each) for each in (nothing.rms, nothing.relative_rms, nothing.cosine))


def test_an_error_against_zeros_is_infinitely_large() -> None:
    zeros, ones = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    total = _sum(slice(None), pair=(zeros, ones))
    assert (total.relative_rms, total.cosine) == (math.inf, 0.0)


@given(
    arrays.arrays(np.float32, (6, 2), elements=st.floats(-1e3, 1e3, width=32)),
    arrays.arrays(np.float32, (6, 2), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(1, 5),
)
def test_any_cut_gives_the_same(a: NDArray[np.float32], b: NDArray[np.float32], cut: int) -> None:
    whole, parts = (
        _sum(*slices, pair=(a, b)) for slices in ([slice(None)], [slice(0, cut), slice(cut, None)])
    )
    assert parts.largest == whole.largest
    assert parts.rms == pytest.approx(whole.rms, rel=1e-9, abs=1e-12)
    assert parts.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-9)
    assert parts.cosine == pytest.approx(whole.cosine, rel=1e-9, abs=1e-12)
