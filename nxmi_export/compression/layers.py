"""The linear module that carries fake quantizers; parameter names do not change."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.recipe import Scheme, WeightSettings

__all__ = ["CompressedLinear", "weights_made_once"]


# Weights as they run, by their linears; None outside of `weights_made_once`.
_made: dict[nn.Module, Tensor] | None = None


@contextmanager
def weights_made_once() -> Iterator[None]:
    """Let a linear that runs several times, as all of ALBERT's, quantize its weight only once.

    Weights must not change in the block, and what it made is forgotten with it. In training it is
    one forward pass, as backward frees the graph behind: gradients of the runs are summed before
    they pass the quantizer, which is linear in them; so they are the same but for the order of
    summation. Evaluation may run everything in one block. A block in a block is a part of it.
    """
    global _made  # as torch.nn.utils.parametrize.cached: no argument reaches the linears
    if _made is not None:
        yield
        return
    _made = {}
    try:
        yield
    finally:
        _made = None


class CompressedLinear(nn.Linear):
    """A linear whose weight follows a scheme; the weight has shape (out, in).

    `weight` stays the trained float weight. What runs, here and when deployed, is its fake
    quantization; a pattern without bits has no quantizers and runs the float weight.
    """

    # SR-STE's mask, bool of the weight's shape, while a sparsifier sets one; in no state dict
    straight_through_mask: Tensor | None = None

    def __init__(
        self, linear: nn.Linear, scheme: Scheme, weights: WeightSettings | None = None
    ) -> None:
        nn.Module.__init__(self)
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.weight = linear.weight
        self.bias = linear.bias
        self.scheme = scheme
        self.weight_quantizer = (
            WeightQuantizer(linear.out_features, scheme.bits, weights) if scheme.bits else None
        )
        self.input_quantizer: ActivationQuantizer | None = None
        self.output_quantizer: ActivationQuantizer | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The linear map of quantized values, (…, in) to (…, out)."""
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        y = nn.functional.linear(x, self._running_weight(), self.bias)
        return y if self.output_quantizer is None else self.output_quantizer(y)

    def _running_weight(self) -> Tensor:
        """The weight as it runs, made at every call, or once under `weights_made_once`."""
        if _made is None:
            return self._make_weight()
        if self not in _made:
            _made[self] = self._make_weight()
        return _made[self]

    def _make_weight(self) -> Tensor:
        weight: Tensor = self.weight
        if self.straight_through_mask is not None:
            weight = _Masked.apply(  # type: ignore[no-untyped-call]
                weight, self.straight_through_mask
            )
        return weight if self.weight_quantizer is None else self.weight_quantizer(weight)

    @torch.no_grad()
    def codes(self) -> Tensor:
        """The stored integers, int8 of shape (out, in); only for schemes with bits."""
        assert self.weight_quantizer is not None
        return self.weight_quantizer.codes(self.weight)


class _Masked(torch.autograd.Function):
    """weight · mask, whose gradient reaches the masked weights too (Zhou et al., 2021, eq. 3)."""

    @staticmethod
    def forward(_: Any, weight: Tensor, mask: Tensor) -> Tensor:
        return weight * mask

    @staticmethod
    def backward(_: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
