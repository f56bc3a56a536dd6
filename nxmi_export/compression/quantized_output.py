"""A module in, the same module with its output quantized out, for every reader of that output.

Placement `sparse` quantizes values where they are made, because a residual addition reads them
beside the linears.
"""

from typing import Self

from torch import Tensor, nn
from transformers.models.mobilebert.modeling_mobilebert import NoNorm

from nxmi_export.compression.quantizers import ActivationQuantizer

__all__ = ["QuantizedLayerNorm", "QuantizedLinear", "QuantizedNoNorm", "with_quantized_output"]


class QuantizedLayerNorm(nn.LayerNorm):
    """A LayerNorm whose output is one quantized value for every reader, the residual included."""

    output_quantizer: ActivationQuantizer

    @classmethod
    def of(cls, norm: nn.LayerNorm, quantizer: ActivationQuantizer) -> Self:
        """The same normalization, parameters shared with `norm`, with `quantizer` behind it."""
        quantized = cls.__new__(cls)
        nn.Module.__init__(quantized)
        quantized.normalized_shape = norm.normalized_shape
        quantized.eps = norm.eps
        quantized.elementwise_affine = norm.elementwise_affine
        quantized.weight = norm.weight
        quantized.bias = norm.bias
        quantized.output_quantizer = quantizer
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """The quantized normalization of `x`, in the shape of `x`."""
        return self.output_quantizer(super().forward(x))  # type: ignore[no-any-return]


class QuantizedLinear(nn.Linear):
    """A linear that no recipe compresses (embeddings made wider), before an INT8 residual."""

    output_quantizer: ActivationQuantizer

    @classmethod
    def of(cls, linear: nn.Linear, quantizer: ActivationQuantizer) -> Self:
        """The same linear map, parameters shared with `linear`, with `quantizer` behind it."""
        quantized = cls.__new__(cls)
        nn.Module.__init__(quantized)
        quantized.in_features = linear.in_features
        quantized.out_features = linear.out_features
        quantized.weight = linear.weight
        quantized.bias = linear.bias
        quantized.output_quantizer = quantizer
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """The quantized linear map of `x`, (…, in) to (…, out)."""
        return self.output_quantizer(super().forward(x))  # type: ignore[no-any-return]


class QuantizedNoNorm(NoNorm):
    """MobileBERT's affine map in the place of a norm, with a quantized output."""

    output_quantizer: ActivationQuantizer

    @classmethod
    def of(cls, norm: NoNorm, quantizer: ActivationQuantizer) -> Self:
        """The same map, parameters shared with `norm`, with `quantizer` behind it."""
        quantized = cls.__new__(cls)
        nn.Module.__init__(quantized)
        quantized.weight = norm.weight
        quantized.bias = norm.bias
        quantized.output_quantizer = quantizer
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """The quantized `x · weight + bias`, in the shape of `x`."""
        return self.output_quantizer(super().forward(x))  # type: ignore[no-any-return]


def with_quantized_output(module: nn.Module, quantizer: ActivationQuantizer) -> nn.Module:
    """`module`, which is a LayerNorm, a NoNorm or a linear, with `quantizer` behind it."""
    match module:
        case nn.LayerNorm():
            return QuantizedLayerNorm.of(module, quantizer)
        case NoNorm():
            return QuantizedNoNorm.of(module, quantizer)
    assert isinstance(module, nn.Linear)
    return QuantizedLinear.of(module, quantizer)
