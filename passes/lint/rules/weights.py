"""Stored weights: integers in the file, read by DequantizeLinear directly."""

from collections.abc import Iterator

import onnx_ir as ir

from passes.constants import constant
from passes.embedding_tables import embedding_tables
from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading
from passes.lint.walk import MOVERS, ancestors, producer, walk_back
from passes.quantizers import is_dequantize, is_quantize
from passes.table_invariants import dequantize_of

__all__ = [
    "float_storage",
    "moved_codes",
    "quantized_vector",
    "scaled_table",
    "transposed_weight",
]

# What may make the codes: a quantizer of stored floats, and int32 numbers that become int8.
_ACCEPTED = {"Cast", "Constant", "QuantizeLinear"}
_ANY = MOVERS | {"Clip", "Concat", "Gather", "Slice"}


@rule(
    "moved-codes",
    Severity.REFUSE,
    remedy="store the codes as DequantizeLinear reads them; --fix does it where it can, exactly",
)
def moved_codes(reading: Reading) -> Iterator[Place]:
    """An operator between stored codes and their DequantizeLinear parses, and fails to build."""
    for node in reading.nodes:
        codes = node.inputs[0] if is_dequantize(node) else None
        between = producer(codes)
        if between is None or between.op_type in _ACCEPTED:
            continue
        # What an input chooses among stored codes is no constant, and refused all the same.
        chosen = walk_back(codes, MOVERS | {"Gather"})
        if (reading.is_constant(codes) or constant(chosen) is not None) and not _rounded(codes):
            yield node, f"a {between.op_type} between the stored codes and DequantizeLinear"


@rule(
    "float-storage",
    Severity.NOTE,
    remedy="store the integers, a quarter of the size; --fix does it, exactly",
)
def float_storage(reading: Reading) -> Iterator[Place]:
    """A float constant that the graph quantizes gives the same engine as its stored integers."""
    for node in reading.nodes:
        if is_quantize(node) and reading.is_constant(node.inputs[0]):
            yield node, "a QuantizeLinear of a constant"


@rule(
    "transposed-weight",
    Severity.NOTE,
    remedy="store the weight as the product reads it; --fix does it, exactly",
)
def transposed_weight(reading: Reading) -> Iterator[Place]:
    """A Transpose between DequantizeLinear and product has to be folded before an integer kernel
    can be used; TensorRT does it where it recognises the pattern.
    """
    for layer in reading.layers:
        behind = producer(layer.node.inputs[1])
        if behind is not None and behind.op_type == "Transpose" and layer.weight.dequantize:
            yield layer.node, "a Transpose between the weight's DequantizeLinear and the product"


@rule(
    "quantized-vector",
    Severity.NOTE,
    remedy="store biases and norms as floats; --fix does it, exactly",
)
def quantized_vector(reading: Reading) -> Iterator[Place]:
    """Biases and norms are used as floats: the engine is the same, and less exact."""
    for each in reading.stored:
        tensor = constant(each.node.inputs[0])
        integer = tensor is not None and tensor.dtype.bitwidth < 32
        if is_dequantize(each.node) and integer and tensor is not None and len(tensor.shape) < 2:
            yield each.node, f"a stored vector of {tensor.size} codes"


@rule(
    "scaled-table",
    Severity.DEGRADE,
    remedy="multiply the rows that were looked up by their scales; --fix does it, exactly",
)
def scaled_table(reading: Reading) -> Iterator[Place]:
    """With a scale per row in front of a look-up, every run multiplies the whole table; behind it,
    one kernel reads the INT8 rows that are needed (TensorRT-RTX).
    """
    for graph in reading.model.graphs():
        for table in embedding_tables(graph):
            quantizer = dequantize_of(table)
            if quantizer is not None and quantizer.axis == 0:
                yield table.node, f"a table of {len(table.stored)} rows, each scaled in every run"


def _rounded(codes: ir.Value | None) -> bool:
    """Whether a QuantizeLinear makes the codes, so that floats are stored: those fold."""
    return any(is_quantize(node) for node in ancestors(codes, _ANY))
