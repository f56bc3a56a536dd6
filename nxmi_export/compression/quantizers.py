"""Fake-quantizer modules: a float value in, the value as the deployed integers will carry it out.

Scales are buffers, so they travel in the state dict and reach the exported graph as constants.
"""

import torch
from torch import Tensor, nn

from nxmi_export.compression.magnitude_histogram import MagnitudeHistogram
from nxmi_export.fake_quantize import ACTIVATION_INT8, fake_quantize, quantize, weight_range

__all__ = ["ActivationQuantizer", "WeightQuantizer"]

DEAD_CHANNEL_SCALE = 1.0  # for a channel of zeros, which has no maximum; engines refuse 0

# BERT-like encoders send outliers of a hundred times the usual magnitude through a few channels of
# a few tokens. A scale that covers them rounds everything else to zero.
COVERED = 0.9995


class ActivationQuantizer(nn.Module):
    """One static per-tensor INT8 scale for one value of the network.

    States: observing (values pass unchanged and are counted) and quantizing.
    A fixed `scale` (softmax: 1/127, its outputs never exceed 1) needs no observing.
    """

    scale: Tensor  # shape ()

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.fixed = scale is not None
        # NaN until calibrated: a forgotten calibration then shows in every output.
        self.register_buffer("scale", torch.tensor(scale if scale is not None else torch.nan))
        self.histogram: MagnitudeHistogram | None = None  # while observing

    def forward(self, x: Tensor) -> Tensor:
        """`x` as its INT8 codes carry it; `x` itself while observing."""
        if self.histogram is not None:
            self.histogram.add(x)
            return x
        return fake_quantize(x, self.scale, ACTIVATION_INT8)

    def codes(self, x: Tensor) -> Tensor:
        """The int8 codes of `x`, as the deployed QuantizeLinear computes them."""
        return quantize(x, self.scale, ACTIVATION_INT8)

    def observe(self) -> None:
        """Start counting the values; a fixed scale stays as it is."""
        self.histogram = None if self.fixed else MagnitudeHistogram()

    def calibrate(self, covered: float = COVERED) -> None:
        """Stop observing; the scale then covers the share `covered` of the magnitudes seen.

        It stays NaN where nothing was seen.
        """
        if self.histogram is not None:
            reach = self.histogram.percentile(covered)
            self.scale.fill_(reach / ACTIVATION_INT8.high or DEAD_CHANNEL_SCALE)
        self.histogram = None


class WeightQuantizer(nn.Module):
    """Symmetric per-output-channel scales for one weight of shape (out, in)."""

    scale: Tensor  # shape (out,)

    def __init__(self, out_features: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.limits = weight_range(bits)
        self.register_buffer("scale", torch.full((out_features,), torch.nan))

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` as its codes carry it; while training, under the scale of the weight itself."""
        if self.training:
            self.fit(weight)
        return fake_quantize(weight, self.scale, self.limits, axis=0)

    def codes(self, weight: Tensor) -> Tensor:
        """The stored integers of `weight`, int8, shape (out, in)."""
        return quantize(weight, self.scale, self.limits, axis=0)

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Take the max-abs scale of each output channel."""
        scale = weight.detach().abs().amax(dim=1) / self.limits.high
        # Of a subnormal scale the largest weight no longer lands on the largest code.
        dead = scale < torch.finfo(scale.dtype).tiny
        self.scale.copy_(torch.where(dead, DEAD_CHANNEL_SCALE, scale))
