"""The operator `nxmi::fake_quantize`: a float tensor in, the tensor rounded to integer steps out.

Its numbers are those of ONNX QuantizeLinear → DequantizeLinear (divide by the scale, round half to
even, saturate, multiply by the scale), and the tests hold it to `passes.numerics` and to
onnxruntime bit for bit. PyTorch's own fake quantization multiplies by `1 / scale`
instead, which moves values across rounding ties.
"""

import torch
from torch import Tensor

from passes import numerics
from passes.numerics import IntegerRange

__all__ = ["ACTIVATION_INT8", "IntegerRange", "fake_quantize", "quantize", "weight_range"]


_PER_TENSOR = -1  # an operator's schema takes an integer for the axis, never None


ACTIVATION_INT8 = numerics.INT8  # where QuantizeLinear saturates, so that codes can be equal
_WEIGHTS = {8: numerics.INT8_WEIGHT, 4: numerics.INT4_WEIGHT}


def weight_range(bits: int) -> IntegerRange:
    """The symmetric range of a `bits`-wide weight: ±127 for 8 bits, ±7 for 4.

    The lowest code stays unused so that negation is exact and zero is the middle.
    """
    return _WEIGHTS[bits]


def quantize(x: Tensor, scale: Tensor, limits: IntegerRange, axis: int | None = None) -> Tensor:
    """Integer codes of `x` as int8, by ONNX QuantizeLinear with zero-point 0.

    `scale` is a scalar, or one value per slice of `axis`. An infinity saturates; a NaN has no code,
    and what it becomes is undefined, here as in ONNX.
    """
    ratio = x / _along(scale, x, axis)
    return torch.clamp(torch.round(ratio), limits.low, limits.high).to(torch.int8)


def fake_quantize(
    x: Tensor, scale: Tensor, limits: IntegerRange, axis: int | None = None
) -> Tensor:
    """`x` rounded to multiples of `scale`; the gradient passes straight through inside the range.

    The range ends half a step beyond its outermost codes. Values outside saturate and get no
    gradient: moving them cannot change the output. A NaN stays NaN, so that it is seen, and gets no
    gradient either.
    """
    rounded: Tensor = _fake_quantize(
        x, scale, limits.low, limits.high, _PER_TENSOR if axis is None else axis
    )
    return rounded


@torch.library.custom_op("nxmi::fake_quantize", mutates_args=())
def _fake_quantize(x: Tensor, scale: Tensor, low: int, high: int, axis: int) -> Tensor:
    step = _along(scale, x, None if axis == _PER_TENSOR else axis)
    return (x / step).round_().clamp_(low, high).mul_(step)


@_fake_quantize.register_fake
def _(x: Tensor, scale: Tensor, low: int, high: int, axis: int) -> Tensor:
    return torch.empty_like(x)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, scale, low, high, axis = inputs
    step = _along(scale, x, None if axis == _PER_TENSOR else axis)
    ctx.save_for_backward((x >= (low - 0.5) * step) & (x <= (high + 0.5) * step))


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    (inside,) = ctx.saved_tensors
    return grad * inside, None, None, None, None


_fake_quantize.register_autograd(_backward, setup_context=_setup_context)


def _along(scale: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """`scale` shaped so that it broadcasts along `axis` of `x`."""
    if axis is None:
        return scale
    shape = [1] * x.dim()
    shape[axis] = -1
    return scale.reshape(shape)
