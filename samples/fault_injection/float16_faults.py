"""A float16 file whose numbers or ranges are not those that were proved."""

import numpy as np
import onnx_ir as ir

from nxmi_export.artefact import FP16_MODEL
from nxmi_export.parity import Stage
from passes import MODULE_KEY, module_of
from passes.constants import constant_array, store
from samples.fault_injection.fault import Base, Fault
from samples.fault_injection.naming import UNSEEN, Cause, Kind, Naming, drifted, stored
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

GELU = f"{BLOCK}.intermediate.intermediate_act_fn"
POOLER = "bert.pooler.activation"
_NEARLY = 0.95  # of a step


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


def _float16_activation(site: Site) -> Naming:
    """A cheaper operator of the same range, in which no stored number and few predictions show."""

    def edit(model: ir.Model) -> None:
        node = node_of(model, GELU, "Gelu")
        node.op_type = "Relu"
        node.attributes.clear()

    site.edit(edit, FP16_MODEL)
    return drifted(Cause.OPERATOR, GELU, Kind.ACTIVATION, rung=Stage.FLOAT16)


def _float16_pooler(site: Site) -> Naming:
    """Its tanh left out, behind all quantizers."""

    def edit(model: ir.Model) -> None:
        node_of(model, POOLER, "Tanh").op_type = "Identity"

    site.edit(edit, FP16_MODEL)
    return drifted(Cause.OPERATOR, POOLER, Kind.ACTIVATION, rung=Stage.FLOAT16)


def _float16_codes(site: Site) -> Naming:
    """Nearly a step is added in front of the first quantizer, and nearly all codes are one off."""
    pair = (n for n in site.read(FP16_MODEL).graph if n.op_type == "QuantizeLinear")
    first = module_of(next(node for node in pair if constant_array(node.inputs[0]) is None))

    def edit(model: ir.Model) -> None:
        quantize = node_of(model, first, "QuantizeLinear")
        scale, read = constant_array(quantize.inputs[1]), quantize.inputs[0]
        assert scale is not None
        assert read is not None
        step = store(model.graph, np.array(_NEARLY * scale, np.float32), "planted_step")
        moved = add_node(quantize, "Add", [read, step])
        moved.type, moved.shape = read.type, read.shape
        quantize.replace_input_with(0, moved)

    site.edit(edit, FP16_MODEL)
    return UNSEEN


FAULTS = (
    Fault("norm of the float16 file off by 2^17", "float16", _float16_norm, Base.FLOAT16),
    Fault("float16 file overflows between casts", "float16", _float16_overflow, Base.FLOAT16),
    Fault("ReLU in the float16 file alone", "float16", _float16_activation, Base.FLOAT16),
    Fault("no tanh in the float16 file's pooler", "float16", _float16_pooler, Base.FLOAT16),
    Fault("first codes of the float16 file one off", "float16", _float16_codes, Base.FLOAT16),
)
