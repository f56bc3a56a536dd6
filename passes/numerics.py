"""The one definition of this project's arithmetic: quantization and N:M sparsity, in numpy.

PyTorch's fake quantizer and onnxruntime are tested against these functions bit for bit.
All floating-point arithmetic is float32, as in the deployed graph.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from passes.errors import InvalidGroups, InvalidScale, InvalidWeight

__all__ = [
    "INT4_WEIGHT",
    "INT8",
    "INT8_WEIGHT",
    "UINT8",
    "Codes",
    "Float32Array",
    "IntegerRange",
    "check_scale",
    "dequantize",
    "group_violations",
    "keep_mask",
    "project",
    "quantize",
    "symmetric_scales",
]

Float32Array = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8] | npt.NDArray[np.uint8]
_Number = TypeVar("_Number", bound=np.generic)

DEAD_CHANNEL_SCALE = np.float32(1)  # any positive value: its codes are all 0, 0 × 1 is still 0
SMALLEST_SCALE = np.finfo(np.float32).tiny  # below it, x / scale no longer stays within the range


@dataclass(frozen=True)
class IntegerRange:
    """The integers a quantizer may produce, both ends included."""

    low: int
    high: int


INT8 = IntegerRange(-128, 127)  # activations: where QuantizeLinear itself saturates
UINT8 = IntegerRange(0, 255)  # the same activations, shifted by a zero-point of 128
INT8_WEIGHT = IntegerRange(-127, 127)  # symmetric: -128 unused, so negation is exact
INT4_WEIGHT = IntegerRange(-7, 7)  # the same for 4 bits, stored as int8


def quantize(
    x: Float32Array,
    scale: Float32Array,
    limits: IntegerRange = INT8,
    *,
    zero_point: int = 0,
    axis: int | None = None,
) -> Codes:
    """ONNX QuantizeLinear: `saturate(round_half_to_even(x / scale) + zero_point)`.

    `scale` is one value, one per slice of `axis`, or of the rank of `x`: one per block along
    `axis`. The codes are int8, or uint8 where `limits` has no negative integers.
    Raises `InvalidScale`, and `InvalidWeight` for a NaN in `x`, which
    has no code; an infinity saturates.
    """
    check_scale("scale", scale)
    if np.isnan(x).any():
        raise InvalidWeight(
            "quantize",
            expected="numbers",
            found=f"{np.isnan(x).sum()} NaN among {x.size} values",
            remedy="find the step of the training or calibration that produced them",
        )
    with np.errstate(over="ignore", under="ignore"):  # an overflowing ratio saturates below
        ratio = np.asarray(x / _along(scale, x, axis))
    np.rint(ratio, out=ratio)
    ratio += np.float32(zero_point)
    np.clip(ratio, limits.low, limits.high, out=ratio)
    return ratio.astype(np.int8) if limits.low < 0 else ratio.astype(np.uint8)


def dequantize(
    codes: Codes, scale: Float32Array, *, zero_point: int = 0, axis: int | None = None
) -> Float32Array:
    """ONNX DequantizeLinear: `(codes - zero_point) × scale`, float32."""
    check_scale("scale", scale)
    centred = (codes.astype(np.int16) - np.int16(zero_point)).astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):  # as IEEE has it: infinity, or a subnormal
        return np.asarray(centred * _along(scale, codes, axis))


def symmetric_scales(
    x: Float32Array, limits: IntegerRange = INT8_WEIGHT, *, axis: int | None = None
) -> Float32Array:
    """The max-abs scales `max|x| / limits.high`, one per slice of `axis` (shape `()` without).

    A channel whose scale would be zero or subnormal counts as dead and gets 1: engines refuse a
    zero scale, and with a subnormal one the largest weight no longer lands on the largest code.
    """
    other = None if axis is None else tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    largest = np.abs(x).max(axis=other, initial=np.float32(0))
    if not np.isfinite(largest).all():
        raise InvalidWeight(
            "symmetric_scales",
            expected="finite numbers",
            found=f"{x.size - np.isfinite(x).sum()} NaN or infinite among {x.size} values",
            remedy="find the step of the training that produced them",
        )
    with np.errstate(under="ignore"):
        scale = np.asarray(largest / np.float32(limits.high), dtype=np.float32)
    return np.where(scale < SMALLEST_SCALE, DEAD_CHANNEL_SCALE, scale)


def check_scale(subject: str, scale: npt.NDArray[Any]) -> None:
    """Refuse a scale that is zero, negative, NaN or infinite, naming the first such channel."""
    invalid = ~(np.isfinite(scale) & (scale > 0))
    if invalid.any():
        first = int(np.flatnonzero(invalid)[0])
        raise InvalidScale(
            subject,
            expected="positive finite scales",
            found=f"{scale.flat[first]} at index {first} ({invalid.sum()} of {scale.size} invalid)",
            remedy="recalibrate; a dead channel takes any positive scale",
        )


def keep_mask(weight: npt.NDArray[Any], keep: int, group: int) -> npt.NDArray[np.bool_]:
    """True for the `keep` largest magnitudes in every `group` neighbours of the last axis.

    Equal magnitudes go to the lowest index, so the mask is a function of the weight alone.
    """
    grouped = _grouped(weight, keep, group, axis=-1)
    if not np.isfinite(grouped).all():
        raise InvalidWeight(
            "project",
            expected="finite weights",
            found=f"{weight.size - np.isfinite(weight).sum()} NaN or infinite among {weight.size}",
            remedy="find the step of the training that produced them",
        )
    # The widest magnitude first; np.abs of an int8 -128 would be -128 again.
    magnitude = np.abs(grouped.astype(np.result_type(weight.dtype, np.int16), copy=False))
    order = np.argsort(-magnitude, axis=-1, kind="stable")
    mask = np.zeros(grouped.shape, dtype=np.bool_)
    np.put_along_axis(mask, order[..., :keep], values=True, axis=-1)
    return mask.reshape(weight.shape)


def project(weight: npt.NDArray[_Number], keep: int, group: int) -> npt.NDArray[_Number]:
    """The nearest `keep`:`group`-sparse array in Euclidean norm, groups along the last axis.

    The last axis is in_features of a PyTorch weight, the axis that the product sums over.
    """
    return np.where(keep_mask(weight, keep, group), weight, weight.dtype.type(0))


def group_violations(
    codes: npt.NDArray[Any], keep: int, group: int, axis: int
) -> npt.NDArray[np.intp]:
    """Positions of the groups along `axis` with more than `keep` non-zeros, in row-major order.

    One row per group; its entry for `axis` counts groups, so the group's elements begin at that
    entry times `group`. No tolerance: a stored 1e-30 is a non-zero.
    """
    crowded = np.count_nonzero(_grouped(codes, keep, group, axis), axis=-1) > keep
    return np.argwhere(np.moveaxis(crowded, -1, axis))


def _grouped(
    values: npt.NDArray[_Number], keep: int, group: int, axis: int
) -> npt.NDArray[_Number]:
    """`values` with `axis` moved last and split into (groups, group)."""
    if not 0 < keep < group:
        raise InvalidGroups(
            f"{keep}:{group}",
            expected="a pattern that keeps at least one and drops at least one of each group",
            found=f"keep {keep} of {group}",
            remedy='write a pattern such as "2:4"',
        )
    length = values.shape[axis]
    if length % group:
        raise InvalidGroups(
            f"{keep}:{group}",
            expected=f"an axis whose length is a multiple of {group}",
            found=f"length {length}",
            remedy="exclude the layer in the recipe",
        )
    moved = np.moveaxis(values, axis, -1)
    return moved.reshape(*moved.shape[:-1], length // group, group)


def _along(scale: Float32Array, x: npt.NDArray[Any], axis: int | None) -> Float32Array:
    """`scale` shaped so that it broadcasts along `axis` of `x`."""
    if axis is not None and scale.ndim == x.ndim > 1:
        return _over_blocks(scale, x, axis)
    if scale.size != (1 if axis is None else x.shape[axis]):
        raise InvalidScale(
            "scale",
            expected="one value" if axis is None else f"{x.shape[axis]} values, one per channel",
            found=f"{scale.size}",
            remedy="check the axis of the quantizer",
        )
    if axis is None:
        return scale.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return scale.reshape(shape)


def _over_blocks(scale: Float32Array, x: npt.NDArray[Any], axis: int) -> Float32Array:
    """ONNX's blocked quantization: each value of `scale` serves equally many along `axis`."""
    blocks, length = scale.shape[axis], x.shape[axis]
    others = (scale.shape[:axis], scale.shape[axis + 1 :]) == (x.shape[:axis], x.shape[axis + 1 :])
    if not others or not blocks or length % blocks:
        raise InvalidScale(
            "scale",
            expected=f"one value per block along axis {axis} of {x.shape}",
            found=f"shape {scale.shape}",
            remedy="check the axis and the blocks of the quantizer",
        )
    return np.repeat(scale, length // blocks, axis=axis)
