"""Scales: positive, finite, constant, and along an axis that an integer kernel can use."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading

__all__ = [
    "activation_scale",
    "computed_scale",
    "half_scale",
    "per_channel_activation",
    "weight_scale",
    "weight_scale_axis",
]


@rule("activation-scale", Severity.REFUSE, remedy="calibrate again; a scale is positive and finite")
def activation_scale(reading: Reading) -> Iterator[Place]:
    """The parser refuses a scale that is zero, negative, NaN or infinite."""
    for each in reading.activations:
        if wrong := _unusable(each.scale):
            yield each.node, wrong


@rule(
    "weight-scale",
    Severity.REFUSE,
    remedy="give pruned channels a positive scale; --fix does it for zero and negative scales",
)
def weight_scale(reading: Reading) -> Iterator[Place]:
    """The parser refuses a scale that is not positive; a fully pruned channel has a scale of 0 if
    it is made of the largest weight.
    """
    for each in reading.stored:
        if wrong := _unusable(each.scale):
            yield each.node, wrong


@rule("computed-scale", Severity.DEGRADE, remedy="calibrate static scales before the export")
def computed_scale(reading: Reading) -> Iterator[Place]:
    """A scale that the graph computes builds, with kernels that measure the range in every run."""
    for each in reading.activations:
        if each.scale is None:
            name = None if each.node.inputs[1] is None else each.node.inputs[1].name
            yield each.node, f"the scale {name!r}, which the graph computes"


@rule("weight-scale-axis", Severity.DEGRADE, remedy="quantize weights per output channel")
def weight_scale_axis(reading: Reading) -> Iterator[Place]:
    """Scales along the reduction axis cannot leave the sum: the engine dequantizes the weights and
    multiplies floats, silently.
    """
    for layer in reading.layers:
        weight = layer.weight
        several = weight.scale is not None and weight.scale.size > 1
        if several and weight.scale_axis != weight.output_axis:
            yield layer.node, "weight scales along the reduction axis"


@rule("per-channel-activation", Severity.DEGRADE, remedy="quantize activations per tensor")
def per_channel_activation(reading: Reading) -> Iterator[Place]:
    """Several scales for one activation turn the product behind it into a float one, silently;
    in front of some operators the build fails.
    """
    for each in reading.activations:
        if each.scale is not None and each.scale.size > 1:
            yield each.node, f"{each.scale.size} scales for one activation"


@rule(
    "half-scale",
    Severity.DEGRADE,
    remedy="keep quantizer, product and bias in FP32 and cast to FP16 behind them",
)
def half_scale(reading: Reading) -> Iterator[Place]:
    """Per-channel weight scales in FP16 type the raw INT32 sum as FP16 before it is scaled, which
    may overflow (TensorRT-RTX).
    """
    for layer in reading.layers:
        scale = layer.weight.scale
        if layer.input_quantizer is not None and scale is not None:
            dtype = ir.DataType.from_numpy(scale.dtype)
            if dtype == ir.DataType.FLOAT16 and scale.size > 1:
                yield layer.node, "FP16 scales per output channel"


def _unusable(scale: np.ndarray | None) -> str:
    """What is wrong with a constant scale; empty if nothing is."""
    if scale is None:
        return ""
    numbers = np.atleast_1d(scale.astype(np.float32)).ravel()
    wrong = numbers[~(np.isfinite(numbers) & (numbers > 0))]
    return f"{wrong.size} of {numbers.size} scales such as {wrong[0]}" if wrong.size else ""
