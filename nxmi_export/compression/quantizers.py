"""Fake-quantizer modules: a float value in, the value as the deployed integers will carry it out.

Scales are buffers, so they travel in the state dict and reach the exported graph as constants.
Only while steps are learned does a parameter, the logarithm of each step, stand in for them: a step
then stays positive, and one learning rate serves steps of every size.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nxmi_export.compression.magnitude_histogram import MagnitudeHistogram
from nxmi_export.compression.weight_steps import (
    DEAD_CHANNEL_SCALE,
    best_ratios,
    largest_magnitudes,
    per_row,
    scales,
)
from nxmi_export.fake_quantize import (
    ACTIVATION_INT8,
    IntegerRange,
    fake_quantize,
    quantize,
    weight_range,
)
from nxmi_export.recipe import ActivationSettings, Calibration, WeightSettings

__all__ = ["ActivationQuantizer", "WeightQuantizer"]


class ActivationQuantizer(nn.Module):
    """INT8 scales for one value of the network: one fixed scale, or one per token.

    States: observing (values pass unchanged and are counted), off (`enabled` is False; values pass
    unchanged), and quantizing, under `scale` or, between `learn` and `freeze`, a trained step.
    A fixed `scale` (softmax: 1/127, its outputs never exceed 1) is neither observed nor learned,
    and dynamic scales need neither.
    """

    scale: Tensor  # shape ()
    log_step: nn.Parameter | None  # shape (); while learning

    def __init__(
        self, scale: float | None = None, settings: ActivationSettings | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or ActivationSettings()
        self.fixed = scale is not None
        self.enabled = True
        self.histogram: MagnitudeHistogram | None = None  # while observing
        # NaN until calibrated: a forgotten calibration then shows in every output.
        initial = 1.0 if self.dynamic else torch.nan
        self.register_buffer("scale", torch.tensor(initial if scale is None else scale))
        self.register_parameter("log_step", None)

    @property
    def dynamic(self) -> bool:
        """Whether every token is scaled by its own largest magnitude; `scale` then means nothing.

        A token is one run along the last axis.
        """
        return self.settings.mode == "dynamic" and not self.fixed

    @property
    def learnable(self) -> bool:
        """Whether the settings ask for a trained step and there is one to train."""
        return self.settings.learned and not (self.fixed or self.dynamic)

    def forward(self, x: Tensor) -> Tensor:
        """`x` as its INT8 codes carry it, in the type of `x`; `x` itself while observing or off."""
        if self.histogram is not None:
            self.histogram.add(x)
            return x
        if not self.enabled:
            return x
        if self.dynamic:
            tokens = x.reshape(-1, x.shape[-1])
            return fake_quantize(tokens, _per_token(tokens), ACTIVATION_INT8, 0).reshape(x.shape)
        if self.log_step is None:
            return fake_quantize(x, self.scale, ACTIVATION_INT8)
        # The count leaves out batch and sequence, or the same examples in other micro-batches
        # would train the step differently.
        return fake_quantize(
            x, _learned(self.log_step, x.shape[-1], ACTIVATION_INT8), ACTIVATION_INT8
        )

    def codes(self, x: Tensor) -> Tensor:
        """The int8 codes of `x`, as the deployed QuantizeLinear computes them."""
        if self.dynamic:
            tokens = x.reshape(-1, x.shape[-1])
            return quantize(tokens, _per_token(tokens), ACTIVATION_INT8, 0).reshape(x.shape)
        scale = self.scale if self.log_step is None else self.log_step.detach().exp()
        return quantize(x, scale, ACTIVATION_INT8)

    def observe(self) -> bool:
        """Start counting the values, even if off; False for a scale that needs none of it."""
        needed = not (self.fixed or self.dynamic)
        self.histogram = MagnitudeHistogram() if needed else None
        return needed

    @torch.no_grad()
    def calibrate(self, calibration: Calibration | None = None) -> None:
        """Stop observing and fit the scale to what was seen, by the settings unless told otherwise.

        It stays NaN where nothing was seen.
        """
        if self.histogram is None:
            return
        reach = self.histogram.reach(calibration or self.settings.calibration, ACTIVATION_INT8.high)
        self.scale.fill_(reach / ACTIVATION_INT8.high or DEAD_CHANNEL_SCALE)
        if self.log_step is not None:
            self.log_step.copy_(self.scale.log())
        self.histogram = None

    def learn(self) -> None:
        """Train the step from here on, starting at the scale; calibrating resets it."""
        self.log_step = nn.Parameter(self.scale.detach().log())

    @torch.no_grad()
    def freeze(self) -> None:
        """Make the trained step the scale, if there is one."""
        if self.log_step is not None:
            self.scale.copy_(self.log_step.exp())
            self.log_step = None


class WeightQuantizer(nn.Module):
    """Symmetric scales of one weight of shape (out, in), shared by groups of output rows.

    While it neither learns nor is held, every training forward refits the scale to the weight. The
    search of `mse` and `percentile` is done in `fit` alone; refits keep its result relative to the
    largest magnitude.
    """

    scale: Tensor  # shape (out,), equal within a group
    ratio: Tensor  # shape (groups,): how much of the largest magnitude the range reaches
    log_step: nn.Parameter | None  # shape (groups,); while learning

    def __init__(
        self, out_features: int, bits: int, settings: WeightSettings | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or WeightSettings()
        self.bits = bits
        self.limits = weight_range(bits)
        of_bits = {8: self.settings.int8_granularity, 4: self.settings.int4_granularity}
        self.rows = min(of_bits[bits].rows or out_features, out_features)
        self.enabled = True
        self.held = False  # `fit` then leaves the scale alone
        self.register_buffer("scale", torch.full((out_features,), torch.nan))
        self.register_buffer("ratio", torch.ones(-(-out_features // self.rows)), persistent=False)
        self.register_parameter("log_step", None)

    @property
    def learnable(self) -> bool:
        """Whether the settings ask for trained steps."""
        return self.settings.learned

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` as its codes carry it, or itself while `enabled` is False."""
        if not self.enabled:
            return weight
        if self.training and self.log_step is None:
            self.refit(weight)
        return fake_quantize(weight, self._steps(weight.shape[1]), self.limits, axis=0)

    def codes(self, weight: Tensor) -> Tensor:
        """The stored integers of `weight`, int8, shape (out, in)."""
        with torch.no_grad():
            return quantize(weight, self._steps(weight.shape[1]), self.limits, axis=0)

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Fit the scale to `weight` by the settings' calibration, unless it is held."""
        if not self.held:
            self.ratio.copy_(
                best_ratios(weight.detach(), self.rows, self.limits, self.settings.calibration)
            )
            self.refit(weight)

    @torch.no_grad()
    def refit(self, weight: Tensor) -> None:
        """Fit the scale to `weight` without a search, unless it is held."""
        if not self.held:
            largest = largest_magnitudes(weight.detach(), self.rows)
            self._set(scales(largest, self.ratio, self.limits))

    @torch.no_grad()
    def hold(self, scale: Tensor) -> None:
        """Set the scale, shape (out,) and equal within a group, and keep it until `release`."""
        self._set(scale[:: self.rows])
        self.held = True

    def release(self) -> None:
        """Let `fit` and training forwards move the scale again."""
        self.held = False

    @torch.no_grad()
    def learn(self) -> None:
        """Train the steps from here on, starting at the scale, held or not."""
        self.log_step = nn.Parameter(self.scale[:: self.rows].log())

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the scale as it stands, or the trained steps where there are any."""
        if self.log_step is not None:
            self.scale.copy_(self._steps(1))
            self.log_step = None
        self.held = True

    def _set(self, groups: Tensor) -> None:
        self.scale.copy_(per_row(groups, self.rows, len(self.scale)))
        if self.log_step is not None:
            self.log_step.copy_(groups.log())

    def _steps(self, in_features: int) -> Tensor:
        """The scale in force, shape (out,)."""
        if self.log_step is None:
            return self.scale
        steps = _learned(self.log_step, self.rows * in_features, self.limits)
        return per_row(steps, self.rows, len(self.scale))


def _per_token(tokens: Tensor) -> Tensor:
    """The max-abs scale of each row of (tokens, features), float32."""
    largest = largest_magnitudes(tokens.detach(), rows=1).float()
    return scales(largest, torch.ones_like(largest), ACTIVATION_INT8)


def _learned(log_step: Tensor, count: int, limits: IntegerRange) -> Tensor:
    """The steps, each shared by `count` values; their gradient is scaled by 1/√(count · high).

    Without the factor the many summands would make a step's update large against a weight's (Esser
    et al., 2020, §2.2), and one clipped norm covers both here.
    """
    factor = float(count * limits.high) ** -0.5
    steps: Tensor = _GradientScaled.apply(  # type: ignore[no-untyped-call]
        log_step.exp(), factor
    )
    return steps


class _GradientScaled(torch.autograd.Function):
    """The identity; its gradient is multiplied by a factor. What a hook does, for torch.compile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None
