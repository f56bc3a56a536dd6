"""A float16 file whose numbers or ranges are not those that were proved."""

import numpy as np
import onnx_ir as ir

from nxmi_export.artefact import FP16_MODEL
from passes import MODULE_KEY
from passes.constants import store
from samples.fault_injection.fault import Base, Fault
from samples.fault_injection.naming import Naming, stored
from samples.fault_injection.places import (
    BLOCK,
    WORDS,
    add_node,
    change_input,
    node_of,
    nodes_of,
)
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]


def _far_too_large(model: ir.Model) -> None:
    """One norm's weight times 2^17, beyond what float16 holds."""
    for node in nodes_of(model, f"{BLOCK}.output.LayerNorm", "LayerNormalization"):
        change_input(node, 1, lambda weight: weight * np.float32(2**17))


def _float16_norm(site: Site) -> Naming:
    site.edit(_far_too_large, FP16_MODEL)
    return stored(f"{BLOCK}.output.LayerNorm", "norm weight", file=FP16_MODEL)


def _float16_overflow(site: Site) -> Naming:
    """Embeddings times 2^30 and back, which kernels that compute in float32 do not show."""

    def edit(model: ir.Model) -> None:
        rows = node_of(model, WORDS, "Gather").outputs[0]
        readers = list(rows.uses())
        large = store(model.graph, np.float16(2**15), "planted_large")
        value = rows
        for kind in ("Mul", "Mul", "Div", "Div"):
            value = add_node(readers[0].node, kind, [value, large])
            maker = value.producer()
            assert maker is not None
            maker.metadata_props[MODULE_KEY] = WORDS
            value.type, value.shape = rows.type, rows.shape
        for use in readers:
            use.node.replace_input_with(use.idx, value)

    site.edit(edit, FP16_MODEL)
    return stored(WORDS, "float16", file=FP16_MODEL)


FAULTS = (
    Fault("norm of the float16 file off by 2^17", "float16", _float16_norm, Base.FLOAT16),
    Fault("float16 file overflows between casts", "float16", _float16_overflow, Base.FLOAT16),
)
