"""Statements about the embedding tables of a model; each names the look-up where it is false."""

from collections.abc import Iterator

import onnx_ir as ir

from passes.contract import invariant
from passes.embedding_tables import EmbeddingTable, embedding_tables
from passes.errors import InvariantViolated
from passes.provenance import describe
from passes.quantizers import Quantizer, is_dequantize, read_quantizer

__all__ = ["codes_are_gathered", "dequantize_of", "only_gathered_rows_are_scaled"]


@invariant
def only_gathered_rows_are_scaled(model: ir.Model) -> None:
    """No table has a scale per row in front of its look-up: engines would scale all rows."""
    for table in _tables(model):
        quantizer = dequantize_of(table)
        if quantizer is not None and quantizer.axis == 0:
            raise InvariantViolated(
                describe(table.node),
                expected="scales that multiply the rows it looked up",
                found="a scale per row that multiplies the whole table",
                remedy="run ScaleGatheredRows on the graph",
            )


@invariant
def codes_are_gathered(model: ir.Model) -> None:
    """No table of codes is made one of floats, by a scale of 1, only to look up a few rows."""
    for table in _tables(model):
        quantizer = dequantize_of(table)
        if quantizer is not None and quantizer.scale is not None and quantizer.scale == 1:
            raise InvariantViolated(
                describe(table.node),
                expected="a look-up of stored codes",
                found="one in the whole table as floats",
                remedy="run GatherCodes on the graph",
            )


def dequantize_of(table: EmbeddingTable) -> Quantizer | None:
    """The DequantizeLinear of the whole table in front of its look-up, or None."""
    source = table.node.inputs[0]
    behind = None if source is None else source.producer()
    return read_quantizer(behind) if behind is not None and is_dequantize(behind) else None


def _tables(model: ir.Model) -> Iterator[EmbeddingTable]:
    for graph in model.graphs():
        yield from embedding_tables(graph)
