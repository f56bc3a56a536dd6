"""Statements about a graph of two float types; each names the node where it is false."""

from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from passes.constants import constant
from passes.contract import Invariant, invariant
from passes.errors import InvariantViolated
from passes.float_regions import is_mask, islands
from passes.magnitudes import Magnitudes
from passes.provenance import describe, module_of
from passes.quantizers import is_dequantize, is_quantize, read_quantizer

__all__ = [
    "LARGEST",
    "MASK",
    "SCORES",
    "float16_masks_hide",
    "float16_values_fit",
    "islands_are_float32",
    "quantizers_keep_the_numbers_of",
    "values_are_typed",
]

LARGEST = 60_000.0  # float16 ends at 65 504; the rest is room for rounding on the way to a bound
MASK = -(2.0**15)  # exact in float16, and half of its range
SCORES = 16_000.0  # exp(MASK + 2 × SCORES) is zero in float32, so a mask leaves no share


@invariant
def values_are_typed(model: ir.Model) -> None:
    """Every value states its type: where none is known, nothing can be found to be float32."""
    for node in (node for graph in model.graphs() for node in graph):
        for value in node.outputs:
            if value.dtype is None and value.name:
                raise InvariantViolated(
                    describe(node),
                    expected=f"a type for {value.name}",
                    found="none",
                    remedy="infer the shapes of the graph first",
                )


@invariant
def islands_are_float32(model: ir.Model) -> None:
    """Quantizers, products of integers, LayerNormalization and Softmax neither read nor make
    float16.
    """
    for node in (node for graph in model.graphs() for node in islands(graph)):
        values = (value for value in (*node.inputs, *node.outputs) if value is not None)
        halves = [str(value.name) for value in values if _is_float16(value)]
        if halves:
            raise InvariantViolated(
                describe(node),
                expected="float32 on all sides",
                found=f"float16 in {', '.join(halves)}",
                remedy="cast to float16 behind the node, and to float32 in front of it",
            )


@invariant
def float16_values_fit(model: ir.Model) -> None:
    """The numbers of the graph prove of every float16 value that it is finite."""
    for graph in model.graphs():
        magnitudes = Magnitudes(graph)
        for node in graph:
            halves = [value for value in (*node.inputs, *node.outputs) if _is_float16(value)]
            largest = max(map(magnitudes.largest, halves), default=0)
            if not largest <= LARGEST:
                raise InvariantViolated(
                    describe(node),
                    expected=f"float16 values proved to stay below {LARGEST:.0f}",
                    found=f"values that may reach {largest:.3g}",
                    remedy="keep the node in float32",
                )


@invariant
def float16_masks_hide(model: ir.Model) -> None:
    """A float16 mask is only added to scores that are small beside it."""
    for graph in model.graphs():
        magnitudes = Magnitudes(graph)
        for node in graph:
            if not (is_mask(node) and _is_float16(node.outputs[0])):
                continue
            for reader, score in _masked(node.outputs[0]):
                largest = np.inf if score is None else magnitudes.largest(score)
                if magnitudes.largest(node.outputs[0]) >= -MASK and not largest <= SCORES:
                    raise InvariantViolated(
                        describe(reader),
                        expected=f"a mask added to scores below {SCORES:.0f}",
                        found=f"scores that may reach {largest:.3g}",
                        remedy="keep the node in float32",
                    )


def quantizers_keep_the_numbers_of(model: ir.Model) -> Invariant:
    """Every stored integer, scale, zero-point and axis is, bit for bit, the one of `model` now."""
    expected = tuple(_numbers(model))

    def check(later: ir.Model) -> None:
        found = tuple(_numbers(later))
        for before, after in zip(expected, found, strict=False):
            if not before.same_as(after):
                before_it = f"the numbers of {describe(before.node)} as they were"
                raise _other_numbers(describe(after.node), before_it, "others")
        if len(found) != len(expected):
            raise _other_numbers("quantizers", f"{len(expected)} of them", str(len(found)))

    return Invariant("quantizers_keep_their_numbers", check)


class _Numbers(NamedTuple):
    """What decides the codes of one QuantizeLinear or DequantizeLinear."""

    node: ir.Node
    module: str  # not the node's name, which a later pass may set
    key: Hashable  # of operator, scale, zero-point, codes and axis
    stored: ir.TensorProtocol | None  # the codes, where they are constant

    def same_as(self, other: "_Numbers") -> bool:
        if (self.module, self.key) != (other.module, other.key):
            return False
        if self.stored is None or other.stored is None:
            return self.stored is other.stored
        return self.stored is other.stored or (
            (self.stored.dtype, self.stored.shape) == (other.stored.dtype, other.stored.shape)
            and self.stored.tobytes() == other.stored.tobytes()
        )


def _numbers(model: ir.Model) -> Iterator[_Numbers]:
    for node in (node for graph in model.graphs() for node in graph):
        if is_quantize(node) or is_dequantize(node):
            key = (node.op_type, read_quantizer(node).key)
            yield _Numbers(node, module_of(node), key, constant(node.inputs[0]))


def _other_numbers(subject: str, expected: str, found: str) -> InvariantViolated:
    return InvariantViolated(
        subject,
        expected=expected,
        found=found,
        remedy="leave quantizers and what they read alone",
    )


def _masked(mask: ir.Value) -> Iterator[tuple[ir.Node, ir.Value | None]]:
    """Every reader of `mask`, with what the mask is added to; None where it is not added."""
    for use in mask.uses():
        added = use.node.op_type == "Add"
        yield use.node, use.node.inputs[1 - use.idx] if added else None


def _is_float16(value: ir.Value | None) -> bool:
    if value is None:
        return False
    tensor = constant(value)
    return (value.dtype if tensor is None else tensor.dtype) == ir.DataType.FLOAT16
