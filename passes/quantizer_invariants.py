"""Statements about the quantizers of a model; each names the node where it is false."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import constant, readers
from passes.contract import invariant
from passes.errors import InvariantViolated
from passes.numerics import check_scale
from passes.provenance import describe
from passes.quantizers import Quantizer, is_dequantize, is_quantize, read_quantizer

__all__ = [
    "UNSIGNED_ZERO_POINT",
    "activation_scales_are_per_tensor",
    "activations_are_unsigned",
    "every_quantize_has_its_dequantize",
    "quantizers_are_shared",
    "scales_are_positive_and_finite",
    "weight_zero_points_are_their_own",
    "zero_points_are_centred",
    "zero_points_are_zero",
]

UNSIGNED_ZERO_POINT = 128  # uint8 codes are the int8 codes plus this


@invariant
def zero_points_are_zero(model: ir.Model) -> None:
    """Every quantizer is int8 around zero: TensorRT parses no other, and a pruned weight is 0."""
    for quantizer in _quantizers(model):
        if quantizer.codes != ir.DataType.INT8 or not _all_equal(quantizer.zero_point, 0):
            raise InvariantViolated(
                describe(quantizer.node),
                expected="int8 codes with zero-point 0",
                found=_zero_point_text(quantizer),
                remedy="quantize symmetrically",
            )


@invariant
def zero_points_are_centred(model: ir.Model) -> None:
    """Every quantizer is int8 around 0 or uint8 around 128, which are the same codes."""
    centres = {ir.DataType.INT8: 0, ir.DataType.UINT8: UNSIGNED_ZERO_POINT}
    for quantizer in _quantizers(model):
        centre = centres.get(quantizer.codes)
        if centre is None or not _all_equal(quantizer.zero_point, centre):
            raise InvariantViolated(
                describe(quantizer.node),
                expected="int8 codes with zero-point 0 or uint8 codes with zero-point 128",
                found=_zero_point_text(quantizer),
                remedy="quantize symmetrically",
            )


@invariant
def activations_are_unsigned(model: ir.Model) -> None:
    """Every value is quantized to uint8 around 128: x86 multiplies u8 by s8, not s8 by s8."""
    for quantizer in _quantizers(model):
        if is_quantize(quantizer.node) and not (
            quantizer.codes == ir.DataType.UINT8
            and _all_equal(quantizer.zero_point, UNSIGNED_ZERO_POINT)
        ):
            raise InvariantViolated(
                describe(quantizer.node),
                expected="uint8 codes with zero-point 128",
                found=_zero_point_text(quantizer),
                remedy="run UnsignedActivations on the graph",
            )


@invariant
def scales_are_positive_and_finite(model: ir.Model) -> None:
    """Every scale is a constant that a quantizer can divide by; raises `InvalidScale` if not."""
    for quantizer in _quantizers(model):
        if quantizer.scale is None:
            raise InvariantViolated(
                describe(quantizer.node),
                expected="a constant scale",
                found="one that the graph computes",
                remedy="calibrate the scale before the export",
            )
        check_scale(describe(quantizer.node), quantizer.scale)


@invariant
def activation_scales_are_per_tensor(model: ir.Model) -> None:
    """Every value has one scale: engines turn a per-channel one into a float product, silently."""
    for quantizer in _quantizers(model):
        if is_quantize(quantizer.node) and constant(quantizer.node.inputs[0]) is None:
            channels = 1 if quantizer.scale is None else quantizer.scale.size
            if channels > 1:
                raise InvariantViolated(
                    describe(quantizer.node),
                    expected="one scale for the whole value",
                    found=f"{channels} scales",
                    remedy="quantize activations per tensor",
                )


@invariant
def weight_zero_points_are_their_own(model: ir.Model) -> None:
    """Each stored weight has a zero-point that is read once: onnxruntime may rewrite it."""
    for quantizer in _quantizers(model):
        node = quantizer.node
        if not is_dequantize(node) or constant(node.inputs[0]) is None:
            continue
        point = node.inputs[2] if len(node.inputs) > 2 else None
        reading = 0 if point is None else len(list(readers(point)))
        if point is None or reading > 1:
            raise InvariantViolated(
                describe(node),
                expected="a zero-point that nothing else reads",
                found="none" if point is None else f"{point.name}, shared by {reading} nodes",
                remedy="run OwnZeroPoints on the graph",
            )


@invariant
def every_quantize_has_its_dequantize(model: ir.Model) -> None:
    """Integer codes go from a QuantizeLinear or a constant to DequantizeLinear, and nowhere else.

    Both nodes of a pair agree on scale, zero-point and axis. A Clip may narrow the codes of a
    weight between them (INT4 in ±7).
    """
    for node in (node for graph in model.graphs() for node in graph):
        if is_quantize(node):
            _check_pair(read_quantizer(node), node.outputs[0])
        elif is_dequantize(node):
            source = _through_clip(node.inputs[0])
            if constant(source) is None and not is_quantize(_producer(source)):
                raise InvariantViolated(
                    describe(node),
                    expected="codes from QuantizeLinear or a constant",
                    found=f"{'no input' if source is None else source.name!r}",
                    remedy="keep both nodes of a pair together",
                )


@invariant
def quantizers_are_shared(model: ir.Model) -> None:
    """No value is quantized, and no code dequantized, twice in the same way."""
    for graph in model.graphs():
        seen: dict[Any, ir.Node] = {}
        for node in graph:
            if not (is_quantize(node) or is_dequantize(node)):
                continue
            first = seen.setdefault((node.op_type, node.inputs[0], read_quantizer(node).key), node)
            outputs = (node.outputs[0], first.outputs[0])
            if first is not node and not any(value.is_graph_output() for value in outputs):
                raise InvariantViolated(
                    describe(node),
                    expected=f"to share {first.name}, which does the same to the same value",
                    found="two nodes",
                    remedy="run ShareQuantizers on the graph",
                )


def _quantizers(model: ir.Model) -> Iterator[Quantizer]:
    for node in (node for graph in model.graphs() for node in graph):
        if is_quantize(node) or is_dequantize(node):
            yield read_quantizer(node)


def _all_equal(zero_point: npt.NDArray[np.int64] | None, number: int) -> bool:
    return zero_point is not None and bool(np.all(zero_point == number))


def _zero_point_text(quantizer: Quantizer) -> str:
    kind = str(quantizer.codes).lower()
    if quantizer.zero_point is None:
        return f"{kind} codes with a computed zero-point"
    points = sorted(set(quantizer.zero_point.ravel().tolist()))
    return f"{kind} codes with zero-point {', '.join(map(str, points))}"


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _through_clip(value: ir.Value | None) -> ir.Value | None:
    producer = _producer(value)
    return producer.inputs[0] if producer is not None and producer.op_type == "Clip" else value


def _check_pair(quantize: Quantizer, codes: ir.Value) -> None:
    """Raise unless `codes` has readers and each is a DequantizeLinear that inverts `quantize`."""
    found: list[ir.Node] = []
    for reader in readers(codes):
        clipped = reader.op_type == "Clip" and reader.inputs[0] is codes
        found.extend(readers(reader.outputs[0]) if clipped else [reader])
    wrong = [
        describe(node)
        for node in found
        if not (is_dequantize(node) and read_quantizer(node).inverts(quantize))
    ]
    if codes.is_graph_output():
        wrong.append(f"the graph output {codes.name!r}")
    if wrong or not found:
        raise InvariantViolated(
            describe(quantize.node),
            expected="codes read by DequantizeLinear with the same scale, zero-point and axis",
            found=f"them read by {', '.join(wrong) or 'nothing'}",
            remedy="keep both nodes of a pair together",
        )
