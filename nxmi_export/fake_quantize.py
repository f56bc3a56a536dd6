"""The operator `nxmi::fake_quantize`: a float tensor in, the tensor rounded to integer steps out.

Its numbers are those of ONNX QuantizeLinear → DequantizeLinear (divide by the scale, round half to
even, saturate, multiply by the scale), and the tests hold it to `passes.numerics` and to
onnxruntime bit for bit. PyTorch's own fake quantization multiplies by `1 / scale`
instead, which moves values across rounding ties.
"""

from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from passes import numerics
from passes.numerics import IntegerRange

__all__ = ["ACTIVATION_INT8", "IntegerRange", "fake_quantize", "quantize", "weight_range"]


_BLOCK = 1 << 18  # values; smaller ones spend their time on starting threads
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
    ratio = _ratio(x, _along(scale, x, axis))
    return ratio.round_().clamp_(limits.low, limits.high).to(torch.int8)


def fake_quantize(
    x: Tensor, scale: Tensor, limits: IntegerRange, axis: int | None = None
) -> Tensor:
    """`x` rounded to multiples of `scale`, in the type of `x`; computed in float32.

    The gradient of `x` passes straight through inside the range, which ends half a step beyond its
    outermost codes. Values outside saturate and get none: moving them cannot change the output. A
    NaN stays NaN, so that it is seen.

    A `scale` that requires a gradient gets that of learned step sizes (Esser et al., 2020, eq. 3):
    round(x/s) − x/s inside the range, the saturated code outside, summed over the values that
    share the scale. The paper ends the range at the outermost codes; the largest weight under its
    own max-abs scale would then never train.
    """
    place = _PER_TENSOR if axis is None else axis
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad):
        trained: Tensor = _Rounding.apply(  # type: ignore[no-untyped-call]
            x, scale, limits.low, limits.high, place
        )
        return trained
    rounded: Tensor = _fake_quantize(x, scale, limits.low, limits.high, place)
    return rounded


@torch.library.custom_op("nxmi::fake_quantize", mutates_args=())
def _fake_quantize(x: Tensor, scale: Tensor, low: int, high: int, axis: int) -> Tensor:
    step = _along(scale, x, None if axis == _PER_TENSOR else axis)
    return _ratio(x, step).round_().clamp_(low, high).mul_(step).to(x.dtype)


@_fake_quantize.register_fake
def _(x: Tensor, scale: Tensor, low: int, high: int, axis: int) -> Tensor:
    return torch.empty_like(x)


class _Rounding(torch.autograd.Function):
    """The operator for training: the same numbers, and beside them their derivative.

    The only tensor saved is ∂y/∂s, in the type of `x`. It also tells where a value saturated: there
    it is the outermost code, 7 at least, and elsewhere half a step at most.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, axis: int) -> Tensor:
        ctx.axis, ctx.shape = axis, scale.shape
        step = _along(scale, x, None if axis == _PER_TENSOR else axis)
        if torch.compiler.is_compiling():
            y, derivative = _for_a_compiler(x, step, low, high)
        elif x.dtype == torch.float32:
            y, derivative = _with_derivative(x, step, low, high)
        else:
            y, derivative = _in_blocks(x, step, low, high)
        ctx.save_for_backward(derivative)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (derivative,) = ctx.saved_tensors
        of_x = of_scale = None
        if ctx.needs_input_grad[0]:
            of_x = _between(grad, derivative, -1.0, 1.0)
        if ctx.needs_input_grad[1]:
            if torch.compiler.is_compiling():
                products = derivative.float() * grad
            else:
                # In place of a new tensor: nothing reads the derivative again, and where a retained
                # graph tries to, autograd refuses a saved tensor that has changed.
                products = derivative.mul_(grad)
            of_scale = _per_step(products, ctx.axis).reshape(ctx.shape)
        return of_x, of_scale, None, None, None


def _with_derivative(x: Tensor, step: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Rounded values and ∂y/∂s, both float32: the code where saturated, else code − x/s."""
    ratio = _ratio(x, step)
    inside = _between(ratio, ratio, low - 0.5, high + 0.5)
    codes = ratio.round_().clamp_(low, high)
    derivative = torch.sub(codes, inside, out=inside)
    return codes.mul_(step), derivative


def _for_a_compiler(x: Tensor, step: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """The same as plain operations, which become a single pass, in the type of `x`.

    On a GPU a compiler may divide less exactly, and tell a tie from its neighbours differently.
    """
    ratio = x.float() / step
    codes = ratio.round().clamp(low, high)
    derivative = codes - _between(ratio, ratio, low - 0.5, high + 0.5)
    return (codes * step).to(x.dtype), derivative.to(x.dtype)


def _in_blocks(x: Tensor, step: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """The same in the type of `x`, block by block along the first axis.

    Fresh float32 memory for a whole activation would cost more than the arithmetic on it.
    """
    y, derivative = torch.empty_like(x), torch.empty_like(x)
    rows = max(1, _BLOCK * len(x) // max(x.numel(), 1)) if x.is_cpu else max(1, len(x))
    # one step per slice of the first axis is cut like it, any other serves every block
    steps = torch.split(step, rows) if step.dim() and len(step) == len(x) > 1 else repeat(step)
    parts, outputs, slopes = (torch.split(each, rows) for each in (x, y, derivative))
    for part, its_step, *results in zip(parts, steps, outputs, slopes, strict=False):
        for result, exact in zip(results, _with_derivative(part, its_step, low, high), strict=True):
            result.copy_(exact)
    return y, derivative


def _per_step(x: Tensor, axis: int) -> Tensor:
    """The float32 sums of `x` over all values that share a step."""
    if axis == _PER_TENSOR:
        return x.sum(dtype=torch.float32)
    return x.movedim(axis, 0).reshape(x.shape[axis], -1).sum(1, dtype=torch.float32)


def _between(values: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """`values` where `low` < `x` < `high`, else 0, in one pass over memory and without a mask."""
    selected: Tensor = torch.ops.aten.hardtanh_backward(values, x, low, high)
    return selected


def _ratio(x: Tensor, step: Tensor) -> Tensor:
    """`x` / `step` in float32, a tensor of its own."""
    return x / step if x.dtype == torch.float32 else x.float().div_(step)


def _along(scale: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """`scale` shaped so that it broadcasts along `axis` of `x`."""
    if axis is None:
        return scale
    shape = [1] * x.dim()
    shape[axis] = -1
    return scale.reshape(shape)
