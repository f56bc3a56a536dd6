"""Reading a graph as embedding tables: each look-up of rows, what is stored, and by which scales.

floats → Gather                                               dense
codes → DequantizeLinear → Gather                             as captured and folded
codes → DequantizeLinear(1) → Gather → Mul ← Gather ← scales  for TensorRT
codes → Gather → Cast → Mul ← Gather ← scales                 for onnxruntime
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes.constants import constant, constant_array, readers
from passes.provenance import module_of
from passes.quantizers import Quantizer, is_dequantize, read_quantizer

__all__ = ["EmbeddingTable", "embedding_tables"]


@dataclass(frozen=True)
class EmbeddingTable:
    """One Gather of the rows of a constant matrix."""

    node: ir.Node  # the Gather
    constant: ir.Value  # what is stored, (rows, width): floats, or codes
    scale: npt.NDArray[Any] | None  # shape () or (rows,); None for floats, or where it is computed
    zero_point: npt.NDArray[np.int64] | None  # of codes; None where it is computed

    @property
    def module(self) -> str:
        """The PyTorch module that the look-up was captured from."""
        return module_of(self.node)

    @property
    def stored(self) -> npt.NDArray[Any]:
        """The numbers as stored, (rows, width)."""
        array = constant_array(self.constant)
        assert array is not None  # an EmbeddingTable is only made of a constant
        return array

    @property
    def is_integer(self) -> bool:
        """Whether codes are stored, rather than floats."""
        tensor = constant(self.constant)
        return tensor is not None and tensor.dtype.is_integer()


def embedding_tables(graph: ir.Graph) -> Iterator[EmbeddingTable]:
    """Every look-up among the nodes of `graph`, in order; subgraphs are their own graphs.

    A Gather of the scales that multiply looked-up codes is part of that look-up, not one itself.
    Tables with one scale per block are left out.
    """
    scales: set[ir.Node] = set()
    for node in graph:
        if node in scales or not _looks_rows_up(node):
            continue
        source = node.inputs[0]
        dequantize = None if source is None else source.producer()
        quantizer = None
        if dequantize is not None and is_dequantize(dequantize):
            if dequantize.attributes.get_int("block_size", 0):
                continue
            quantizer, source = read_quantizer(dequantize), dequantize.inputs[0]
        tensor = constant(source)
        if source is None or tensor is None or len(tensor.shape) != 2:
            continue
        table, factor = _read(node, source, quantizer)
        if factor is not None:
            scales.add(factor)
        yield table


def _looks_rows_up(node: ir.Node) -> bool:
    return node.op_type == "Gather" and not node.domain and not node.attributes.get_int("axis", 0)


def _read(
    node: ir.Node, source: ir.Value, quantizer: Quantizer | None
) -> tuple[EmbeddingTable, ir.Node | None]:
    """The table of a look-up, and the Gather of its scales where there is one."""
    tensor = constant(source)
    assert tensor is not None, "the caller saw a constant"
    if not tensor.dtype.is_integer():
        return EmbeddingTable(node, source, None, None), None
    point = np.zeros((), np.int64) if quantizer is None else quantizer.zero_point
    factor = _scales_of(node, node.outputs[0] if quantizer is not None else _cast(node))
    if factor is None:
        scale = None if quantizer is None else quantizer.scale
        return EmbeddingTable(node, source, scale, point), None
    column = constant_array(factor.inputs[0])
    assert column is not None, "`_scales_of` saw a constant"
    scale = column.reshape(-1)
    if quantizer is not None and quantizer.scale is not None:
        scale = scale * quantizer.scale.reshape(-1)
    return EmbeddingTable(node, source, scale, point), factor


def _cast(node: ir.Node) -> ir.Value | None:
    """The looked-up codes as floats, where nothing else reads them."""
    found = list(readers(node.outputs[0]))
    return found[0].outputs[0] if len(found) == 1 and found[0].op_type == "Cast" else None


def _scales_of(node: ir.Node, rows: ir.Value | None) -> ir.Node | None:
    """The Gather, by the same indices, of the column of scales that alone multiplies `rows`."""
    found = [] if rows is None else list(readers(rows))
    if len(found) != 1 or found[0].op_type != "Mul":
        return None
    for value in found[0].inputs:
        factor = None if value is None or value is rows else value.producer()
        if factor is None or not _looks_rows_up(factor) or factor.inputs[1] is not node.inputs[1]:
            continue
        column = constant(factor.inputs[0])
        if column is not None and len(column.shape) == 2 and column.shape[1] == 1:
            return factor
    return None
