"""A graph as the rules see it, read once: its quantizers, linear layers, attentions and tables.

Tolerant where the passes refuse: a linter has to read graphs of every kind, broken ones included.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import onnx_ir as ir

from passes.constants import constant, constant_values
from passes.linear_layers import LinearLayer, linear_layers
from passes.lint.attention import Attention, attentions
from passes.lint.positions import positions
from passes.lint.sequence_rows import sequence_rows
from passes.lint.walk import MOVERS, producer, walk_back
from passes.numerics import group_violations
from passes.quantizer_invariants import UNSIGNED_ZERO_POINT
from passes.quantizers import Quantizer, is_dequantize, is_quantize, read_quantizer
from passes.sparsity import Groups

__all__ = ["FEWEST_CHANNELS", "PAIRS", "Reading", "has_pairs", "is_int8"]

PAIRS = Groups(2, 4)
FEWEST_CHANNELS = 16  # INT8 tensor cores multiply in steps of 16; a narrower product stays float
_TO_STORED = MOVERS | {"Cast", "Clip", "Gather", "QuantizeLinear"}
_TO_WEIGHT = MOVERS | {"Cast", "Clip", "DequantizeLinear", "QuantizeLinear"}


@dataclass(frozen=True)
class Reading:
    """A model and what it is to be built for."""

    model: ir.Model
    sm: int = 86  # compute capability, 86 for SM 8.6
    sequence: int | None = None  # tokens of the longest input that the engine is built for

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        """Every node of every graph, in order."""
        return tuple(node for graph in self.model.graphs() for node in graph)

    @cached_property
    def constants(self) -> frozenset[ir.Value]:
        """Every value that constants alone decide, besides the constants themselves."""
        return frozenset(value for graph in self.model.graphs() for value in constant_values(graph))

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether `value` is a constant or computed from constants alone."""
        return value in self.constants or constant(value) is not None

    @cached_property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """Every QuantizeLinear and DequantizeLinear with one scale per tensor or per channel."""
        pairs = (node for node in self.nodes if is_quantize(node) or is_dequantize(node))
        return tuple(read_quantizer(node) for node in pairs if not _is_blocked(node))

    @cached_property
    def blocked(self) -> tuple[ir.Node, ...]:
        """Every DequantizeLinear with one scale per block."""
        return tuple(node for node in self.nodes if is_dequantize(node) and _is_blocked(node))

    @cached_property
    def activations(self) -> tuple[Quantizer, ...]:
        """The QuantizeLinear of every value that inputs decide."""
        return tuple(
            each
            for each in self.quantizers
            if is_quantize(each.node) and not self.is_constant(each.node.inputs[0])
        )

    @cached_property
    def stored(self) -> tuple[Quantizer, ...]:
        """The DequantizeLinear of every stored tensor, also where something moves the codes."""
        return tuple(
            each
            for each in self.quantizers
            if is_dequantize(each.node) and self.stored_value(each) is not None
        )

    def stored_value(self, quantizer: Quantizer) -> ir.Value | None:
        """The constant that a DequantizeLinear reads, seen through what moves or rounds it."""
        codes = quantizer.node.inputs[0]
        # Rows of a float table that are gathered and then quantized are no stored codes.
        through = _TO_STORED if self.is_constant(codes) else MOVERS | {"Gather"}
        source = walk_back(codes, through)
        return source if constant(source) is not None else None

    @cached_property
    def layers(self) -> tuple[LinearLayer, ...]:
        """Every linear layer whose weight is not quantized in blocks."""
        readable = [node for node in self.nodes if not _weight_is_blocked(node)]
        # A view, because `linear_layers` only iterates.
        view = cast("ir.Graph", ir.GraphView((), (), nodes=readable))
        return tuple(linear_layers(view))

    @cached_property
    def token_layers(self) -> tuple[LinearLayer, ...]:
        """The linear layers that run for every token: not a pooler, not a narrow classifier."""
        per_sequence = sequence_rows(self.model, self.is_constant)
        return tuple(
            layer
            for layer in self.layers
            if min(layer.weight.shape) >= FEWEST_CHANNELS
            and not self.is_constant(layer.data)
            and layer.data not in per_sequence
        )

    @cached_property
    def sparse_layers(self) -> tuple[LinearLayer, ...]:
        """The linear layers whose stored numbers are 2:4 along the reduction axis."""
        return tuple(each for each in self.layers if has_pairs(each, each.weight.reduction_axis))

    @cached_property
    def attentions(self) -> tuple[Attention, ...]:
        """Every softmax between two products of activations."""
        return tuple(attentions(self.model))

    @property
    def is_quantized(self) -> bool:
        """Whether any linear layer was meant to be INT8."""
        return any(is_int8(layer) for layer in self.layers)

    def positions(self) -> Iterator[tuple[ir.Node, int]]:
        """Every look-up in a table of positions, with the tokens that it allows."""
        return positions(self.nodes, self.model.graph.inputs, self.is_constant)


def is_int8(layer: LinearLayer) -> bool:
    """Whether data and weight of the layer are both quantized."""
    return layer.input_quantizer is not None and layer.weight.dequantize is not None


def has_pairs(layer: LinearLayer, axis: int) -> bool:
    """Whether the stored numbers have at most two non-zeros in every four along `axis`."""
    stored = layer.weight.stored
    if stored.dtype == np.uint8:  # as others store it, around 128
        stored = stored.astype(np.int64) - UNSIGNED_ZERO_POINT
    return not stored.shape[axis] % PAIRS.group and not len(
        group_violations(stored, *PAIRS, axis=axis)
    )


def _is_blocked(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("block_size", 0))


def _weight_is_blocked(node: ir.Node) -> bool:
    if node.op_type not in {"Gemm", "MatMul"} or len(node.inputs) < 2:
        return False
    value = node.inputs[1]
    while (maker := producer(value)) is not None and maker.op_type in _TO_WEIGHT:
        if _is_blocked(maker):
            return True
        value = maker.inputs[0]
    return False
