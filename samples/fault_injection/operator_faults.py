"""Operators, residuals and whole layers that are not those of the trained model."""

from typing import Any

import numpy as np
import onnx_ir as ir

from passes.constants import store
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.naming import Cause, Kind, Naming, drifted
from samples.fault_injection.places import (
    BLOCK,
    EMBEDDINGS,
    NEXT,
    add_node,
    change_input,
    layer_of,
    node_of,
)
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

_ACTIVATION = "intermediate.intermediate_act_fn"
GELU = f"{BLOCK}.{_ACTIVATION}"


def _planted(edit: Any, naming: Naming) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(edit)
        return naming

    return plant


def _tanh_gelu(*blocks: str) -> Any:
    """The formula by tanh, of which no weight tells."""

    def edit(model: ir.Model) -> None:
        for block in blocks:
            gelu = node_of(model, f"{block}.{_ACTIVATION}", "Gelu")
            gelu.attributes["approximate"] = ir.AttrString("approximate", "tanh")

    return edit


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
    """A block's norm is fed to itself once more, with the epsilon that it has."""
    norm = node_of(model, f"{BLOCK}.output.LayerNorm", "LayerNormalization")
    readers = list(norm.outputs[0].uses())
    epsilon = norm.attributes.get_float("epsilon")
    again = add_node(
        norm,
        "LayerNormalization",
        [norm.outputs[0], *norm.inputs[1:]],
        axis=-1,
        epsilon=epsilon,
    )
    for use in readers:
        use.node.replace_input_with(use.idx, again)
    model.graph.sort()


def _norms_grown(model: ir.Model) -> None:
    """What every norm gives times 1.0001, its stored numbers being right."""
    for norm in [node for node in model.graph if node.op_type == "LayerNormalization"]:
        readers = list(norm.outputs[0].uses())
        factor = store(model.graph, np.float32(1.0001), "planted_factor")
        grown = add_node(norm, "Mul", [norm.outputs[0], factor])
        for use in readers:
            use.node.replace_input_with(use.idx, grown)
    model.graph.sort()


def _pooler_without_tanh(model: ir.Model) -> None:
    tanh = node_of(model, "bert.pooler.activation", "Tanh")
    tanh.outputs[0].replace_all_uses_with(tanh.inputs[0])
    model.graph.remove(tanh, safe=True)


def _pools_last_token(model: ir.Model) -> None:
    gather = node_of(model, "bert.pooler", "Gather")
    change_input(gather, 1, lambda index: index - 1)


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


def _of_placements(name: str, plant: Plant) -> tuple[Fault, ...]:
    """The fault as it is in the sparse placement, and in the others under their names."""
    others = (Base.ATTENTION, Base.LINEAR)
    return (
        Fault(name, "operators", plant),
        *(Fault(f"{name}, {base} placement", "operators", plant, base) for base in others),
    )


def _summed(edit: Any, block: str = BLOCK) -> Plant:
    """What the norm behind a block's second sum reads is wrong."""
    return _planted(edit, drifted(Cause.SUM, f"{block}.output.LayerNorm", Kind.INPUT))


def _normed(edit: Any, module: str) -> Plant:
    return _planted(edit, drifted(Cause.LAYER_NORM, module, Kind.NORM))


FAULTS = (
    *_of_placements(
        "GELU by tanh in one block",
        _planted(_tanh_gelu(BLOCK), drifted(Cause.OPERATOR, GELU, Kind.ACTIVATION)),
    ),
    Fault(
        "GELU by tanh in the last block",
        "operators",
        _planted(
            _tanh_gelu(NEXT),
            drifted(Cause.OPERATOR, f"{NEXT}.{_ACTIVATION}", Kind.ACTIVATION),
        ),
    ),
    Fault(
        "GELU by tanh",
        "operators",
        _planted(_tanh_gelu(BLOCK, NEXT), drifted(Cause.OPERATOR, GELU, Kind.ACTIVATION)),
    ),
    Fault(
        "ReLU for GELU",
        "operators",
        _planted(
            _relu,
            drifted(
                Cause.OPERATOR,
                f"{BLOCK}.output.dense.input_quantizer",
                Kind.QUANTIZER,
                maker=GELU,
            ),
        ),
    ),
    Fault("residual dropped", "operators", _summed(_residual_dropped)),
    Fault(
        "residual dropped, linear placement", "operators", _summed(_residual_dropped), Base.LINEAR
    ),
    Fault("residual added twice", "operators", _summed(_residual_twice)),
    Fault("residual of another place", "operators", _summed(_residual_from_before, NEXT)),
    Fault(
        "last block skipped",
        "operators",
        _planted(
            _block_skipped,
            drifted(Cause.OPERATOR, "bert.pooler.dense", Kind.INPUT, absent=NEXT),
        ),
    ),
    Fault("norm run twice", "operators", _normed(_norm_doubled, f"{BLOCK}.output.LayerNorm")),
    *_of_placements("every norm times 1.0001", _normed(_norms_grown, f"{EMBEDDINGS}.LayerNorm")),
    Fault(
        "pooler without tanh",
        "operators",
        _planted(
            _pooler_without_tanh,
            drifted(Cause.OPERATOR, "classifier", Kind.INPUT, absent="bert.pooler.activation"),
        ),
    ),
    Fault(
        "pooler reads the last token",
        "operators",
        _planted(
            _pools_last_token,
            drifted(Cause.OPERATOR, "bert.pooler.dense", Kind.INPUT, maker="bert.pooler"),
        ),
    ),
    Fault(
        "logits exchanged behind the classifier",
        "operators",
        _planted(_logits_exchanged, drifted(Cause.OPERATOR, "", Kind.LOGITS)),
    ),
    Fault(
        "alpha of the pooler's Gemm 1.1",
        "operators",
        _planted(_gemm_scaled, drifted(Cause.OPERATOR, "bert.pooler.dense", Kind.LINEAR)),
    ),
)
