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
    assert whole.least_error_scale(127) == parts.least_error_scale(127)


@given(VALUES)
def test_a_scale_never_exceeds_what_the_largest_magnitude_needs(values: Floats) -> None:
    histogram = MagnitudeHistogram()
    histogram.add(torch.from_numpy(values))
    largest = float(np.abs(values).max())
    scale = histogram.least_error_scale(127)
    assert 0 <= scale <= largest / 127 * (1 + 1e-12)
    assert (scale > 0) == (largest > 0)


def test_the_scale_has_the_least_squared_error_of_all_clipping_points() -> None:
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    values[0] = 40.0  # one outlier: covering it would waste most codes
    histogram = MagnitudeHistogram()
    histogram.add(values)

    def error(scale: float) -> float:
        return float((_through_codes(values, scale) - values).square().sum())

    scale = histogram.least_error_scale(127)
    assert error(scale) < error(40.0 / 127)
    assert error(scale) <= 1.02 * min(error(40.0 * share / 100 / 127) for share in range(1, 101))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_value_that_is_not_finite_is_never_forgotten(
    bad: float, order: tuple[int, int, int]
) -> None:
    seen = [torch.tensor([bad, 1.0]), torch.tensor([2.0]), torch.tensor([3.0])]
    histogram = MagnitudeHistogram()
    for index in order:
        histogram.add(seen[index])
    assert not np.isfinite(histogram.least_error_scale(127))


def test_bins_of_a_power_of_two_are_exact() -> None:
    histogram = MagnitudeHistogram()
    histogram.add(torch.tensor([0.75]))
    assert histogram.counts.nonzero().item() == BINS * 3 // 4


def _through_codes(x: torch.Tensor, scale: float) -> torch.Tensor:
    step = np.float32(scale)
    codes = numerics.quantize(x.numpy(), np.asarray(step))
    return torch.from_numpy(numerics.dequantize(codes, np.asarray(step)))
