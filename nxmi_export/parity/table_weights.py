"""A PyTorch model and its graph in, whether every INT8 embedding table is stored as it runs out."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor, nn

from nxmi_export.compression.tables import QuantizedEmbedding, quantized_tables
from nxmi_export.parity.graph_quantizers import module_names
from nxmi_export.parity.layer_weights import Mismatch, array_mismatches
from passes.embedding_tables import EmbeddingTable, embedding_tables

__all__ = ["table_mismatches"]


def table_mismatches(model: nn.Module, graph: ir.Graph) -> Iterator[Mismatch]:
    """Compare codes, scales and zero-point of every quantized table, bit for bit, by module name.

    A table that the graph lacks, or stores as floats, is a mismatch.
    """
    names = module_names(model)
    found: dict[str, list[EmbeddingTable]] = {}
    for each in embedding_tables(graph):
        found.setdefault(names.get(each.module, each.module), []).append(each)
    for name, table in quantized_tables(model).items():
        if name not in found:
            yield Mismatch(name, "table", "a look-up of stored codes", "missing from the graph")
        for each in found.get(name, ()):
            yield from _compared(name, table, each)


def _compared(name: str, table: QuantizedEmbedding, found: EmbeddingTable) -> Iterator[Mismatch]:
    if not found.is_integer:
        yield Mismatch(name, "storage", "int8 codes", f"{found.stored.dtype} values")
        return
    yield from array_mismatches(name, "code", _array(table.codes()), found.stored)
    if found.scale is None:
        yield Mismatch(name, "scale", "constants", "values that the graph computes, or none")
    else:
        yield from array_mismatches(
            name, "scale", _array(table.weight_quantizer.scale), found.scale
        )
    if found.zero_point is None:
        yield Mismatch(name, "zero-point", "0", "a value that the graph computes")
    else:
        zeros = np.zeros_like(found.zero_point)
        yield from array_mismatches(name, "zero-point", zeros, found.zero_point)


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
