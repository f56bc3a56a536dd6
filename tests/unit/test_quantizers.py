import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nxmi_export.compression.magnitude_histogram import BINS, MagnitudeHistogram
from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from passes import numerics

Floats = NDArray[np.float32]
VALUES = hnp.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(-(2.0**60), 2.0**60, width=32)
)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, 1e-45, 1e-38]),
    ),
    st.sampled_from([4, 8]),
)
def test_weight_scales_and_codes_are_those_of_the_passes(weight: Floats, bits: int) -> None:
    limits = numerics.INT8_WEIGHT if bits == 8 else numerics.INT4_WEIGHT
    quantizer = WeightQuantizer(weight.shape[0], bits)
    quantizer.fit(torch.from_numpy(weight))
    scales = numerics.symmetric_scales(weight, limits, axis=0)
    np.testing.assert_array_equal(quantizer.scale.numpy(), scales)
    np.testing.assert_array_equal(
        quantizer.codes(torch.from_numpy(weight)).numpy(),
        numerics.quantize(weight, scales, limits, axis=0),
    )


def test_zero_weights_stay_zero() -> None:
    quantizer = WeightQuantizer(2, 8)
    weight = torch.tensor([[0.0, 3.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    quantizer.fit(weight)
    assert torch.equal(quantizer(weight) == 0, weight == 0)
    assert quantizer.scale[1] == 1


def test_the_scale_follows_the_weight_while_training_and_stands_still_afterwards() -> None:
    quantizer, weight = WeightQuantizer(1, 8), torch.tensor([[127.0, 1.0]])
    quantizer.train()(weight)
    assert quantizer.scale.tolist() == [1.0]
    quantizer.eval()(2 * weight)
    assert quantizer.scale.tolist() == [1.0]


def test_an_observing_quantizer_passes_values_unchanged() -> None:
    quantizer, x = ActivationQuantizer(), torch.tensor([0.1, -0.7])
    quantizer.observe()
    assert torch.equal(quantizer(x), x)
    quantizer.calibrate()
    assert not torch.equal(quantizer(x), x)


def test_a_value_that_is_always_zero_gets_a_harmless_scale() -> None:
    quantizer = ActivationQuantizer()
    quantizer.observe()
    quantizer(torch.zeros(3))
    quantizer.calibrate()
    assert quantizer.scale.item() == 1


def test_a_value_that_was_never_seen_keeps_no_scale() -> None:
    quantizer = ActivationQuantizer()
    quantizer.observe()
    quantizer.calibrate()
    assert torch.isnan(quantizer.scale)


def test_a_fixed_scale_is_not_calibrated() -> None:
    quantizer = ActivationQuantizer(1 / 127)
    quantizer.observe()
    quantizer(torch.tensor([5.0]))
    quantizer.calibrate()
    assert quantizer.scale.item() == pytest.approx(1 / 127)


@given(VALUES)
def test_a_histogram_depends_neither_on_order_nor_on_batches(values: Floats) -> None:
    whole, parts = MagnitudeHistogram(), MagnitudeHistogram()
    whole.add(torch.from_numpy(values))
    for part in np.array_split(values[::-1].copy(), min(3, len(values))):
        parts.add(torch.from_numpy(part))
    assert torch.equal(whole.counts, parts.counts)
    assert whole.largest == parts.largest
    assert whole.percentile(0.9) == parts.percentile(0.9)


@given(VALUES, st.floats(0.01, 1.0))
def test_a_percentile_is_the_nearest_rank_to_a_bins_width(values: Floats, share: float) -> None:
    histogram = MagnitudeHistogram()
    histogram.add(torch.from_numpy(values))
    magnitudes = np.sort(np.abs(values[values != 0]).astype(np.float64))
    if not len(magnitudes):
        assert histogram.percentile(share) == 0
        return
    exact = magnitudes[math.ceil(share * len(magnitudes)) - 1]
    width = 2 * magnitudes[-1] / BINS
    assert exact <= histogram.percentile(share) <= min(exact + width, magnitudes[-1])


def test_one_outlier_in_a_hundred_thousand_does_not_take_the_range() -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    values[0] = 400.0
    quantizer = ActivationQuantizer()
    quantizer.observe()
    quantizer(values)
    quantizer.calibrate()
    reach = 127 * quantizer.scale.item()
    assert 3.5 < reach < 4.5  # of 100 000 standard normal magnitudes, 10 exceed about 3.9


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_value_that_is_not_finite_is_never_forgotten(
    bad: float, order: tuple[int, int, int]
) -> None:
    seen = [torch.tensor([bad, 1.0]), torch.tensor([2.0]), torch.tensor([3.0])]
    histogram = MagnitudeHistogram()
    for index in order:
        histogram.add(seen[index])
    assert not np.isfinite(histogram.percentile(0.5))


def test_bins_of_a_power_of_two_are_exact() -> None:
    histogram = MagnitudeHistogram()
    histogram.add(torch.tensor([0.75]))
    assert histogram.counts.nonzero().item() == BINS * 3 // 4
