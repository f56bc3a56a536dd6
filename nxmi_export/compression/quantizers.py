"""Fake-quantizer modules: a float value in, the value as the deployed integers will carry it out.

Scales are buffers, so they travel in the state dict and reach the exported graph as constants.
"""

import torch
from torch import Tensor, nn

from nxmi_export.fake_quantize import ACTIVATION_INT8, fake_quantize, quantize, weight_range

__all__ = ["ActivationQuantizer", "WeightQuantizer"]

DEAD_CHANNEL_SCALE = 1.0  # an all-zero channel has no maximum; TensorRT refuses a zero scale


class ActivationQuantizer(nn.Module):
    """One static per-tensor INT8 scale for one value of the network.

    States: observing (values pass unchanged, the largest magnitude is kept) and quantizing.
    A fixed `scale` (softmax: 1/127, its outputs never exceed 1) needs no observing.
    """

    scale: Tensor  # shape ()

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.fixed = scale is not None
        # NaN until calibrated: a forgotten calibration then shows in every output.
        self.register_buffer("scale", torch.tensor(scale if scale is not None else torch.nan))
        self.observing = False
        self.largest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            self.largest = max(self.largest, float(x.detach().abs().amax()))
            return x
        return fake_quantize(x, self.scale, ACTIVATION_INT8)

    def codes(self, x: Tensor) -> Tensor:
        """The int8 codes of `x`, as the deployed QuantizeLinear computes them."""
        return quantize(x, self.scale, ACTIVATION_INT8)

    def observe(self) -> None:
        """Start collecting the range of the value; a fixed scale stays as it is."""
        self.observing = not self.fixed
        self.largest = 0.0

    def calibrate(self) -> None:
        """Stop observing and take the max-abs scale, largest / 127."""
        if self.observing:
            self.scale.fill_(self.largest / ACTIVATION_INT8.high or DEAD_CHANNEL_SCALE)
        self.observing = False


class WeightQuantizer(nn.Module):
    """Symmetric per-output-channel scales for one weight of shape (out, in)."""

    scale: Tensor  # shape (out,)

    def __init__(self, out_features: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.limits = weight_range(bits)
        self.register_buffer("scale", torch.full((out_features,), torch.nan))

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            self.fit(weight)
        return fake_quantize(weight, self.scale, self.limits, axis=0)

    def codes(self, weight: Tensor) -> Tensor:
        """The stored integers of `weight`, int8, shape (out, in)."""
        return quantize(weight, self.scale, self.limits, axis=0)

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Take the max-abs scale of each output channel."""
        largest = weight.detach().abs().amax(dim=1)
        dead = largest == 0
        self.scale.copy_(torch.where(dead, DEAD_CHANNEL_SCALE, largest / self.limits.high))
