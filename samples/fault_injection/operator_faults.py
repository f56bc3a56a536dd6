"""Operators, residuals and whole layers that are not those of the trained model."""

from typing import Any

import numpy as np
import onnx_ir as ir

from nxmi_export.artefact import FP16_MODEL
from passes import MODULE_KEY
from passes.constants import store
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.places import (
    BLOCK,
    EMBEDDINGS,
    NEXT,
    add_node,
    change_input,
    layer_of,
    node_of,
    nodes_of,
)
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

GELU = f"{BLOCK}.intermediate.intermediate_act_fn"


def _planted(edit: Any, *phrases: str) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.edit(edit)
        return phrases

    return plant


def _tanh_gelu(model: ir.Model) -> None:
    node_of(model, GELU, "Gelu").attributes["approximate"] = ir.AttrString("approximate", "tanh")


def _relu(model: ir.Model) -> None:
    gelu = node_of(model, GELU, "Gelu")
    gelu.outputs[0].replace_all_uses_with(add_node(gelu, "Relu", [gelu.inputs[0]]))


def _residual_dropped(model: ir.Model) -> None:
    add = node_of(model, f"{BLOCK}.output", "Add")
    add.outputs[0].replace_all_uses_with(add.inputs[0])
    model.graph.remove(add, safe=True)


def _residual_twice(model: ir.Model) -> None:
    add = node_of(model, f"{BLOCK}.output", "Add")
    add.replace_input_with(0, add.inputs[1])


def _residual_from_before(model: ir.Model) -> None:
    """The block's own input, where its attention output belongs."""
    first = node_of(model, f"{NEXT}.attention.output", "Add")
    second = node_of(model, f"{NEXT}.output", "Add")
    second.replace_input_with(1, first.inputs[1])


def _block_skipped(model: ir.Model) -> None:
    """The second block's norm reads the first block's output."""
    before = node_of(model, f"{BLOCK}.output.LayerNorm", "LayerNormalization")
    after = node_of(model, f"{NEXT}.output.LayerNorm", "LayerNormalization")
    after.outputs[0].replace_all_uses_with(before.outputs[0])


def _norm_doubled(model: ir.Model) -> None:
    """A block's norm is fed to itself once more."""
    norm = node_of(model, f"{BLOCK}.output.LayerNorm", "LayerNormalization")
    readers = list(norm.outputs[0].uses())
    again = add_node(norm, "LayerNormalization", [norm.outputs[0], *norm.inputs[1:]], axis=-1)
    for use in readers:
        use.node.replace_input_with(use.idx, again)
    model.graph.sort()


def _pooler_without_tanh(model: ir.Model) -> None:
    tanh = node_of(model, "bert.pooler.activation", "Tanh")
    tanh.outputs[0].replace_all_uses_with(tanh.inputs[0])
    model.graph.remove(tanh, safe=True)


def _pools_last_token(model: ir.Model) -> None:
    gather = node_of(model, "bert.pooler", "Gather")
    change_input(gather, 1, lambda index: index - 1)


def _positions_shifted(model: ir.Model) -> None:
    """Position ids start at 1, as behind a padding index."""
    gather = node_of(model, f"{EMBEDDINGS}.position_embeddings", "Gather")
    one = store(model.graph, np.int64(1), "planted_one")
    gather.replace_input_with(1, add_node(gather, "Add", [gather.inputs[1], one]))


def _types_inverted(model: ir.Model) -> None:
    gather = node_of(model, f"{EMBEDDINGS}.token_type_embeddings", "Gather")
    one = store(model.graph, np.int64(1), "planted_type")
    gather.replace_input_with(1, add_node(gather, "Sub", [one, gather.inputs[1]]))


def _logits_exchanged(model: ir.Model) -> None:
    """By a node behind the classifier, whose weight is right."""
    logits = model.graph.outputs[0]
    gemm = layer_of(model, "classifier").node
    order = store(model.graph, np.array([1, 0]), "planted_order")
    turned = add_node(gemm, "Gather", [gemm.outputs[0], order], axis=1)
    gemm.outputs[0].name, turned.name = "planted_raw_logits", "logits"
    turned.type, turned.shape = logits.type, logits.shape
    model.graph.outputs[0] = turned
    model.graph.sort()


def _gemm_scaled(model: ir.Model) -> None:
    layer_of(model, "bert.pooler.dense").node.attributes["alpha"] = ir.AttrFloat32("alpha", 1.1)


def _far_too_large(model: ir.Model) -> None:
    """One norm's weight times 2^17, beyond what float16 holds."""
    for node in nodes_of(model, f"{BLOCK}.output.LayerNorm", "LayerNormalization"):
        change_input(node, 1, lambda weight: weight * np.float32(2**17))


def _float16_norm(site: Site) -> tuple[str, ...]:
    site.edit(_far_too_large, FP16_MODEL)
    return (f"{BLOCK}.output.LayerNorm: norm weight at [",)


def _float16_overflow(site: Site) -> tuple[str, ...]:
    """Embeddings times 2^30 and back, which kernels that compute in float32 do not show."""
    module = f"{EMBEDDINGS}.word_embeddings"

    def edit(model: ir.Model) -> None:
        rows = node_of(model, module, "Gather").outputs[0]
        readers = list(rows.uses())
        large = store(model.graph, np.float16(2**15), "planted_large")
        value = rows
        for kind in ("Mul", "Mul", "Div", "Div"):
            value = add_node(readers[0].node, kind, [value, large])
            maker = value.producer()
            assert maker is not None
            maker.metadata_props[MODULE_KEY] = module
            value.type, value.shape = rows.type, rows.shape
        for use in readers:
            use.node.replace_input_with(use.idx, value)

    site.edit(edit, FP16_MODEL)
    return (FP16_MODEL, module, ": float16 is ")


FAULTS = (
    Fault(
        "GELU by tanh",
        "operators",
        _planted(_tanh_gelu, f"{GELU} (activation)", "operator numerics"),
    ),
    Fault("ReLU for GELU", "operators", _planted(_relu, GELU, "operator numerics")),
    Fault(
        "residual dropped",
        "operators",
        _planted(_residual_dropped, f"{BLOCK}.output", "residual sum"),
    ),
    Fault(
        "residual dropped, linear placement",
        "operators",
        _planted(_residual_dropped, f"{BLOCK}.output", "residual sum"),
        Base.LINEAR,
    ),
    Fault(
        "residual added twice",
        "operators",
        _planted(_residual_twice, f"{BLOCK}.output", "residual sum"),
    ),
    Fault(
        "residual of another place",
        "operators",
        _planted(_residual_from_before, f"{NEXT}.output", "residual sum"),
    ),
    Fault(
        "last block skipped",
        "operators",
        _planted(_block_skipped, f"nothing of {NEXT} (block)", "operator numerics"),
    ),
    Fault(
        "norm run twice",
        "operators",
        _planted(_norm_doubled, f"{BLOCK}.output.LayerNorm", "LayerNorm"),
    ),
    Fault(
        "pooler without tanh",
        "operators",
        _planted(
            _pooler_without_tanh,
            "nothing of bert.pooler.activation (activation)",
            "operator numerics",
        ),
    ),
    Fault(
        "pooler reads the last token",
        "operators",
        _planted(_pools_last_token, "bert.pooler.dense (input)", "made by bert.pooler (Gather"),
    ),
    Fault(
        "positions shifted by one",
        "operators",
        # The last position has no row, where shapes are compared.
        _planted(
            _positions_shifted, f"{EMBEDDINGS}.position_embeddings/Gather", "out of data bounds"
        ),
    ),
    Fault(
        "token types inverted",
        "operators",
        _planted(
            _types_inverted, f"{EMBEDDINGS}.token_type_embeddings (embedding)", "operator numerics"
        ),
    ),
    Fault(
        "logits exchanged behind the classifier",
        "operators",
        _planted(_logits_exchanged, "logits", "operator numerics"),
    ),
    Fault(
        "alpha of the pooler's Gemm 1.1",
        "operators",
        _planted(_gemm_scaled, "bert.pooler.dense (linear)", "operator numerics"),
    ),
    Fault("norm of the float16 file off by 2^17", "float16", _float16_norm, Base.FLOAT16),
    Fault("float16 file overflows between casts", "float16", _float16_overflow, Base.FLOAT16),
)
