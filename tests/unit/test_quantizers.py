import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.magnitude_histogram import BINS, MagnitudeHistogram
from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.fake_quantize import ACTIVATION_INT8, fake_quantize, weight_range
from nxmi_export.recipe import ActivationSettings, Calibration, Scheme, WeightSettings
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


def _weights(calibration: str = "max", granularity: str = "channel") -> WeightSettings:
    return WeightSettings.model_validate(
        {
            "calibration": calibration,
            "int8_granularity": granularity,
            "int4_granularity": granularity,
        }
    )


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("granularity", "groups"),
    [("channel", [[0], [1], [2], [3], [4]]), ("rows:2", [[0, 1], [2, 3], [4]])],
)
@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_a_group_share_the_scale_of_their_largest_weight(
    bits: int, granularity: str, groups: list[list[int]]
) -> None:
    weight = _random(5, 16)
    quantizer = WeightQuantizer(5, bits, _weights(granularity=granularity))
    quantizer.fit(weight)
    assert quantizer.scale.shape == (5,)
    for group in groups:
        expected = weight[group].abs().max() / weight_range(bits).high
        assert torch.equal(quantizer.scale[group], expected.expand(len(group)))


@pytest.mark.parametrize("granularity", ["tensor", "rows:5", "rows:800"])
def test_one_scale_can_serve_the_whole_weight(granularity: str) -> None:
    weight = _random(5, 16)
    quantizer = WeightQuantizer(5, 8, _weights(granularity=granularity))
    quantizer.fit(weight)
    assert torch.equal(quantizer.scale, (weight.abs().max() / 127).expand(5))


@pytest.mark.parametrize("granularity", ["channel", "rows:2", "tensor"])
@pytest.mark.parametrize("bits", [4, 8])
def test_mse_finds_the_ratio_that_brute_force_finds(bits: int, granularity: str) -> None:
    weight = _random(6, 64) ** 3  # heavy tails, so that saturating pays
    limits = numerics.INT8_WEIGHT if bits == 8 else numerics.INT4_WEIGHT
    quantizer = WeightQuantizer(6, bits, _weights("mse", granularity))
    quantizer.fit(weight)
    rows = {"channel": 1, "rows:2": 2, "tensor": 6}[granularity]
    for start in range(0, 6, rows):
        group = weight[start : start + rows].double().numpy()
        largest, errors = np.abs(group).max(), {}
        for percent in range(20, 101):
            step = largest / limits.high * percent / 100
            codes = np.clip(np.rint(group / step), limits.low, limits.high)
            errors[percent] = float(((codes * step - group) ** 2).sum())
        best = min(errors, key=errors.__getitem__)
        found = float(quantizer.scale[start]) / (largest / limits.high) * 100
        assert found == pytest.approx(best, abs=1e-3)
    if bits == 4:
        assert (quantizer.ratio < 1).any()


def test_a_percentile_of_a_weight_leaves_its_zeros_out() -> None:
    quantizer = WeightQuantizer(1, 8, _weights("percentile:75"))
    quantizer.fit(torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, -2.0, 3.0, -4.0]]))
    assert quantizer.scale.item() == pytest.approx(3 / 127)


@pytest.mark.parametrize("calibration", ["max", "mse", "percentile:99"])
def test_dead_rows_get_a_harmless_scale(calibration: str) -> None:
    quantizer = WeightQuantizer(2, 8, _weights(calibration))
    quantizer.fit(torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
    assert quantizer.scale[0] == 1
    assert quantizer.scale.isfinite().all()


def test_training_keeps_the_searched_ratio_and_follows_the_largest_weight() -> None:
    quantizer, weight = WeightQuantizer(1, 4, _weights("mse")), _random(1, 64) ** 3
    quantizer.fit(weight)
    fitted = quantizer.scale.clone()
    assert quantizer.ratio.item() < 1
    quantizer.train()(2 * weight)
    assert torch.equal(quantizer.scale, 2 * fitted)


def test_a_held_scale_is_kept_until_it_is_released() -> None:
    quantizer, weight = WeightQuantizer(2, 4), _random(2, 8)
    quantizer.hold(torch.tensor([0.5, 0.25]))
    quantizer.fit(weight)
    quantizer.train()(weight)
    assert quantizer.scale.tolist() == [0.5, 0.25]
    quantizer.release()
    quantizer.fit(weight)
    assert torch.equal(quantizer.scale, weight.abs().amax(1) / 7)


@pytest.mark.parametrize("granularity", ["channel", "rows:2", "tensor"])
def test_learned_weight_steps_get_the_scaled_gradient_of_their_logarithm(granularity: str) -> None:
    rows = {"channel": 1, "rows:2": 2, "tensor": 4}[granularity]
    weight, upstream = _random(4, 16), _random(4, 16, seed=1)
    quantizer = WeightQuantizer(4, 4, _weights(granularity=granularity))
    quantizer.fit(0.8 * weight)  # so that some of the weight saturates
    quantizer.learn()
    assert quantizer.log_step is not None
    (quantizer.train()(weight) * upstream).sum().backward()

    scale = quantizer.scale.clone().requires_grad_()
    (fake_quantize(weight, scale, weight_range(4), 0) * upstream).sum().backward()
    assert scale.grad is not None
    of_rows = scale.grad * scale.detach() / (rows * 16 * 7) ** 0.5
    expected = of_rows.reshape(-1, rows).sum(1)
    assert quantizer.log_step.grad is not None
    torch.testing.assert_close(quantizer.log_step.grad, expected, rtol=1e-4, atol=1e-6)


def test_a_learned_activation_step_does_not_depend_on_how_the_batch_is_split() -> None:
    x = _random(6, 5, 8)
    gradients = []
    for parts in (1, 3):
        quantizer = ActivationQuantizer()
        quantizer.scale.fill_(0.01)
        quantizer.learn()
        for part in x.chunk(parts):
            quantizer(part).square().sum().backward()
        assert quantizer.log_step is not None
        gradients.append(quantizer.log_step.grad)
    torch.testing.assert_close(*gradients)


def test_learning_weight_steps_are_not_refitted_and_stay_when_frozen() -> None:
    quantizer, weight = WeightQuantizer(2, 8).train(), _random(2, 8)
    quantizer.fit(weight)
    keys = list(quantizer.state_dict())
    quantizer.learn()
    assert "log_step" in quantizer.state_dict()
    assert quantizer.log_step is not None
    with torch.no_grad():
        quantizer.log_step += 0.5
    learned, codes = quantizer(3 * weight).detach(), quantizer.codes(3 * weight)
    quantizer.freeze()
    assert list(quantizer.state_dict()) == keys == ["scale"]
    assert not list(quantizer.parameters())
    assert torch.equal(quantizer(3 * weight), learned)
    assert torch.equal(quantizer.codes(3 * weight), codes)


def test_a_frozen_activation_step_is_what_was_learned() -> None:
    quantizer, x = ActivationQuantizer(), _random(3, 8)
    quantizer.observe()
    quantizer(x)
    quantizer.calibrate()
    quantizer.learn()
    assert quantizer.log_step is not None
    with torch.no_grad():
        quantizer.log_step += 0.5
    learned = quantizer(x).detach()
    quantizer.freeze()
    assert list(quantizer.state_dict()) == ["scale"]
    assert torch.equal(quantizer(x), learned)


def test_calibrating_resets_what_was_learned() -> None:
    quantizer, x = ActivationQuantizer(), _random(3, 8)
    quantizer.learn()
    assert quantizer.log_step is not None
    assert quantizer.log_step.isnan()
    quantizer.observe()
    quantizer(x)
    quantizer.calibrate(Calibration())
    assert quantizer.log_step.exp().item() == pytest.approx(x.abs().max().item() / 127)


def test_quantizers_that_are_off_pass_values_but_still_observe() -> None:
    x = _random(3, 8)
    weight, activation = WeightQuantizer(3, 4).train(), ActivationQuantizer()
    weight.enabled = activation.enabled = False
    assert torch.equal(weight(x), x)
    assert torch.equal(activation(x), x)
    activation.observe()
    activation(x)
    activation.calibrate()
    assert activation.scale > 0
    assert torch.equal(activation(x), x)


DYNAMIC = ActivationSettings(mode="dynamic", learned=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dynamic_quantizer_scales_every_token_by_its_largest_value(dtype: torch.dtype) -> None:
    quantizer, x = ActivationQuantizer(settings=DYNAMIC), _random(2, 3, 8).to(dtype)
    x[0, 0] = 0
    assert quantizer.scale.item() == 1
    y, codes = quantizer(x), quantizer.codes(x)
    assert y.dtype == dtype
    for token in np.ndindex(2, 3):
        row = x[token].float()
        scale = row.abs().max() / 127 if row.any() else torch.tensor(1.0)
        assert torch.equal(y[token], fake_quantize(row, scale, ACTIVATION_INT8).to(dtype))
        assert torch.equal(codes[token], torch.round(row / scale).to(torch.int8))


def test_a_dynamic_quantizer_passes_the_whole_gradient() -> None:
    x = _random(2, 3, 8).requires_grad_()
    ActivationQuantizer(settings=DYNAMIC)(x).sum().backward()
    assert x.grad is not None
    assert (x.grad == 1).all()


@pytest.mark.parametrize(
    ("scale", "settings", "learnable"),
    [
        (None, ActivationSettings(), True),
        (None, ActivationSettings(learned=False), False),
        (None, DYNAMIC, False),
        (1 / 127, ActivationSettings(), False),
    ],
    ids=["static", "not asked", "dynamic", "fixed"],
)
def test_only_static_scales_of_values_are_learnable(
    scale: float | None, settings: ActivationSettings, learnable: bool
) -> None:
    quantizer = ActivationQuantizer(scale, settings)
    assert quantizer.learnable is learnable
    assert quantizer.observe() is (scale is None and settings.mode == "static")


@pytest.mark.parametrize("outlier", [0.0, 30.0])
def test_mse_of_activations_is_as_good_as_brute_force(outlier: float) -> None:
    values = _random(20_000)
    values[0] = outlier
    histogram = MagnitudeHistogram()
    histogram.add(values)

    def error(reach: float) -> float:
        step = torch.tensor(reach / 127)
        return float((fake_quantize(values, step, ACTIVATION_INT8) - values).square().mean())

    best = min(error(reach) for reach in np.linspace(0.5, float(values.abs().max()), 600))
    assert error(histogram.reach(Calibration(method="mse"), 127)) <= 1.01 * best


def test_values_in_bfloat16_are_counted_like_the_same_values_in_float32() -> None:
    values = _random(1000).bfloat16()
    low, full = MagnitudeHistogram(), MagnitudeHistogram()
    low.add(values)
    full.add(values.float())
    assert torch.equal(low.counts, full.counts)


def test_counting_takes_a_large_tensor_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values, whole, parts = _random(10, 100), MagnitudeHistogram(), MagnitudeHistogram()
    whole.add(values)
    sizes: list[int] = []
    bincount = torch.bincount

    def watched(index: torch.Tensor, *, minlength: int) -> torch.Tensor:
        sizes.append(len(index))
        return bincount(index, minlength=minlength)

    monkeypatch.setattr("nxmi_export.compression.magnitude_histogram.AT_ONCE", 64)
    monkeypatch.setattr(torch, "bincount", watched)
    parts.add(values)
    assert max(sizes) <= 64
    assert torch.equal(whole.counts, parts.counts)


def test_a_straight_through_mask_prunes_forward_and_not_backward() -> None:
    torch.manual_seed(0)
    dense = torch.nn.Linear(4, 2, bias=False)
    linear = CompressedLinear(dense, Scheme.parse("2:4"))
    keys, x = list(linear.state_dict()), _random(3, 4)
    linear.straight_through_mask = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0]]).bool()
    y = linear(x)
    assert torch.equal(y, x @ (dense.weight * linear.straight_through_mask).T)
    y.sum().backward()
    assert dense.weight.grad is not None
    assert torch.equal(dense.weight.grad, x.sum(0).expand(2, 4))
    assert list(linear.state_dict()) == keys


def test_a_quantized_linear_trains_its_steps_under_autocast() -> None:
    torch.manual_seed(0)
    linear = CompressedLinear(torch.nn.Linear(8, 4), Scheme.parse("int8"), WeightSettings())
    assert linear.weight_quantizer is not None
    linear.weight_quantizer.fit(linear.weight)
    linear.weight_quantizer.learn()
    with torch.autocast("cpu", torch.bfloat16):
        y = linear(_random(3, 8))
        y.square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert linear.weight_quantizer.log_step is not None
    assert linear.weight_quantizer.log_step.grad is not None
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32
