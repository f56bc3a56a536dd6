"""A lowered graph in, what is stored for each of its linears and tables out.

Read from the graph rather than from the recipe, so that the manifest says what is there.
"""

import numpy as np
import onnx_ir as ir

import passes
from nxmi_export.artefact.manifest import LinearRecord, PackedRecord, TableRecord

__all__ = ["linear_records", "packed_records", "table_records"]


def linear_records(model: ir.Model) -> dict[str, LinearRecord]:
    """By module name; a block that runs repeatedly counts once."""
    records = {}
    for layer in passes.linear_layers(model.graph):
        inputs, outputs = layer.weight.shape
        stored = layer.weight.matrix
        pattern = layer.node.metadata_props.get(passes.SPARSITY_KEY)
        parts = [pattern] if pattern else []
        parts += [str(stored.dtype)] if layer.weight.is_integer else []
        records[layer.module] = LinearRecord(
            storage="+".join(parts) or "dense",
            inputs=inputs,
            outputs=outputs,
            zeros=float(np.mean(stored == 0)),
        )
    return records


def packed_records(model: ir.Model) -> dict[str, PackedRecord]:
    """Of each linear that is stored in INT4 blocks, by module name."""
    records = {}
    for layer in passes.linear_layers(model.graph):
        weight = layer.weight
        if weight.is_int4 and weight.block is not None and weight.scale is not None:
            codes = weight.constant.const_value
            size = weight.scale.nbytes + (0 if codes is None else codes.nbytes)
            records[layer.module] = PackedRecord(block=weight.block, bytes=size)
    return records


def table_records(model: ir.Model) -> dict[str, TableRecord]:
    """By module name."""
    records = {}
    for table in passes.embedding_tables(model.graph):
        rows, width = table.stored.shape
        records[table.module] = TableRecord(
            storage=str(table.stored.dtype) if table.is_integer else "dense",
            rows=rows,
            width=width,
            bytes=table.stored.nbytes + (0 if table.scale is None else table.scale.nbytes),
        )
    return records
