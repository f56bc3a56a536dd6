"""One PyTorch linear and the layers of the ONNX graph made from it in, what differs out.

Everything is compared bit for bit: an exported weight is a copy, not an approximation. Positions
are PyTorch's, (out, in), whichever way the graph stores the matrix.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor, nn

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.quantizers import WeightQuantizer
from passes.constants import constant_array
from passes.linear_layers import LinearLayer, Weight
from passes.numerics import group_violations

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)

__all__ = ["Mismatch", "array_mismatches", "layer_mismatches", "rounded_like"]


@dataclass(frozen=True)
class Mismatch:
    """One thing that the ONNX file has otherwise than the PyTorch model."""

    module: str
    what: str  # "code", "scale", "zero-point", "weight", "bias", "pattern", "layer", …
    expected: str
    found: str
    position: tuple[int, ...] = ()  # of the first that differs
    count: int = 1  # how many differ

    def __str__(self) -> str:
        place = f" at {list(self.position)}" if self.position else ""
        more = f", the first of {self.count}" if self.count > 1 else ""
        return f"{self.module}: {self.what}{place} is {self.found}, not {self.expected}{more}"


def layer_mismatches(
    name: str, linear: nn.Linear, layer: LinearLayer, *, float16: bool = False
) -> Iterator[Mismatch]:
    """Compare weight, scale, zero-point, pattern and bias of one layer.

    With `float16`, a float weight or bias may be PyTorch's rounded to float16.
    """
    weight = layer.weight
    shape = (linear.in_features, linear.out_features)
    if weight.shape != shape:
        yield Mismatch(name, "shape (in, out)", str(shape), str(weight.shape))
        return
    quantizer = linear.weight_quantizer if isinstance(linear, CompressedLinear) else None
    if isinstance(linear, CompressedLinear) and quantizer is not None:
        yield from _quantized_mismatches(name, linear, weight, float16)
    elif weight.is_integer or weight.dequantize is not None:
        yield Mismatch(name, "storage", "float32 values", "quantized ones")
    else:
        yield from _path_mismatches(name, weight, float16)
        expected = rounded_like(weight.matrix, _array(linear.weight), float16)
        yield from array_mismatches(name, "weight", expected, weight.matrix.T)
    if isinstance(linear, CompressedLinear) and linear.scheme.pattern is not None:
        pattern = linear.scheme.pattern
        yield from _pattern_mismatches(name, pattern.keep, pattern.group, weight)
    yield from _bias_mismatches(name, linear, layer, float16)


def array_mismatches(
    module: str, what: str, expected: NDArray[Any], found: NDArray[Any]
) -> Iterator[Mismatch]:
    """At most one mismatch: another type, another shape, or the first element with other bits."""
    if expected.dtype != found.dtype:
        yield Mismatch(module, f"type of {what}", str(expected.dtype), str(found.dtype))
    elif expected.shape != found.shape:
        yield Mismatch(module, f"shape of {what}", str(expected.shape), str(found.shape))
    else:
        differing = np.argwhere(_bits(expected) != _bits(found))
        if len(differing):
            at = tuple(int(i) for i in differing[0])
            values = str(expected[at]), str(found[at])
            yield Mismatch(module, what, *values, position=at, count=len(differing))


def _quantized_mismatches(
    name: str, linear: CompressedLinear, weight: Weight, float16: bool
) -> Iterator[Mismatch]:
    if not weight.is_integer or weight.dequantize is None:
        yield Mismatch(name, "storage", "int8 codes", f"{weight.stored.dtype} values")
        return
    yield from _path_mismatches(name, weight, float16)
    assert linear.weight_quantizer is not None
    yield from array_mismatches(name, "code", _array(linear.codes()), weight.matrix.T)
    if weight.scale is None:
        yield Mismatch(name, "scale", "constants", "values that the graph computes")
    else:
        yield from _scale_mismatches(name, linear.weight_quantizer, weight)
    point = weight.dequantize.zero_point
    if point is None:
        yield Mismatch(name, "zero-point", "0", "a value that the graph computes")
    else:
        yield from array_mismatches(name, "zero-point", np.zeros_like(point), point)


def _path_mismatches(name: str, weight: Weight, float16: bool) -> Iterator[Mismatch]:
    """What is stored is what is multiplied: nothing else may change numbers on the way there."""
    wanted = ["DequantizeLinear"] if weight.dequantize is not None else []
    found = [node.op_type for node in weight.path if not _is_harmless(node, float16)]
    if found != wanted:
        expected, told = (" → ".join(each) or "direct" for each in (wanted, found))
        yield Mismatch(name, "way to the product", expected, told)


def _is_harmless(node: ir.Node, float16: bool) -> bool:
    if node.op_type == "Cast":
        return float16 and node.attributes.get_int("to", 0) in _FLOATS
    return node.op_type in ("Identity", "Transpose")


def _scale_mismatches(name: str, quantizer: WeightQuantizer, weight: Weight) -> Iterator[Mismatch]:
    """One per channel; blocks repeat it, or PyTorch's own for each of them, in every block."""
    assert weight.scale is not None, "the caller saw constants"
    expected, wanted = _array(quantizer.scale), weight.output_axis
    found = weight.scale
    if weight.block is not None:
        wanted = weight.reduction_axis
        found = found.T if wanted == 0 else found  # (out, blocks)
        blocks = found.shape[-1]
        if expected.ndim == 1:
            expected = np.repeat(expected[:, None], blocks, axis=1)
        elif blocks % expected.shape[1] == 0:
            expected = np.repeat(expected, blocks // expected.shape[1], axis=1)
    if weight.scale_axis != wanted:
        where = "the output axis" if weight.block is None else "the reduction axis"
        yield Mismatch(name, "axis of the scale", where, str(weight.scale_axis))
    yield from array_mismatches(name, "scale", expected, found)


def _pattern_mismatches(name: str, keep: int, group: int, weight: Weight) -> Iterator[Mismatch]:
    """The pattern must hold on the stored numbers, along K, where sparse kernels skip."""
    crowded = group_violations(weight.matrix, keep, group, axis=0)
    if len(crowded):
        start, channel = int(crowded[0][0]) * group, int(crowded[0][1])
        numbers = weight.matrix[start : start + group, channel].tolist()
        yield Mismatch(
            name,
            "pattern",
            f"{keep}:{group} sparse",
            str(numbers),
            position=(channel, start),
            count=len(crowded),
        )


def _bias_mismatches(
    name: str, linear: nn.Linear, layer: LinearLayer, float16: bool
) -> Iterator[Mismatch]:
    bias = dict(linear.named_parameters()).get("bias")
    found = constant_array(layer.bias)
    if bias is not None and found is not None:
        yield from array_mismatches(name, "bias", rounded_like(found, _array(bias), float16), found)
    elif bias is not None and bias.any():  # exporters drop one that is all zero
        yield Mismatch(name, "bias", "a constant one", "missing")
    elif found is not None:
        yield Mismatch(name, "bias", "absent", "a constant one")


def rounded_like(found: NDArray[Any], expected: NDArray[Any], float16: bool) -> NDArray[Any]:
    """What `expected` is in a file that may store floats in float16, and did so in `found`."""
    return expected.astype(np.float16) if float16 and found.dtype == np.float16 else expected


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """As unsigned integers: NaN then equals itself and −0 does not equal 0."""
    return np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(array.shape)
