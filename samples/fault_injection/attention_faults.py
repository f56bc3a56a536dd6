"""Attention that computes something else than what was trained, its stored numbers being right."""

from typing import Any

import numpy as np
import onnx_ir as ir

from passes.constants import store
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.naming import Cause, Kind, Naming, drifted
from samples.fault_injection.places import (
    ATTENTION,
    BLOCK,
    add_node,
    change_input,
    node_of,
    nodes_of,
)
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

_PLACEMENTS = (Base.SPARSE, Base.ATTENTION, Base.LINEAR)
_LOWEST = np.finfo(np.float32).min


def _mask_add(model: ir.Model) -> tuple[ir.Node, int]:
    """The addition of the mask to the first block's scores, and which operand the mask is."""
    softmax = node_of(model, ATTENTION, "Softmax")
    add = softmax.inputs[0].producer()  # type: ignore[union-attr]
    assert add is not None
    assert add.op_type == "Add"
    from_scores = [
        value is not None and getattr(value.producer(), "op_type", "") == "Mul"
        for value in add.inputs
    ]
    return add, from_scores.index(False)


def _everywhere(model: ir.Model) -> ir.Value:
    """The mask that every block adds."""
    add, place = _mask_add(model)
    mask = add.inputs[place]
    assert mask is not None
    return mask


def _planted(edit: Any, cause: Cause) -> Plant:
    """`edit`, to be seen in the first block's probabilities."""

    def plant(site: Site) -> Naming:
        site.edit(edit)
        return drifted(cause, ATTENTION, Kind.ATTENTION)

    return plant


def _ignored(model: ir.Model) -> None:
    add, place = _mask_add(model)
    add.outputs[0].replace_all_uses_with(add.inputs[1 - place])
    model.graph.remove(add, safe=True)


def _ignored_everywhere(model: ir.Model) -> None:
    mask = _everywhere(model)
    node = mask.producer()
    assert node is not None
    zeros = add_node(
        node, "Mul", [node.inputs[1], store(model.graph, np.float32(0), "planted_zero")]
    )
    node.replace_input_with(2, zeros)


def _inverted(model: ir.Model) -> None:
    node = _everywhere(model).producer()
    assert node is not None
    kept, hidden = node.inputs[1:]
    node.replace_input_with(1, hidden)
    node.replace_input_with(2, kept)


def _weak(model: ir.Model, lowest: float) -> None:
    """Padding is hidden by less than it takes."""
    node = _everywhere(model).producer()
    assert node is not None
    change_input(node, 2, lambda array: np.full_like(array, lowest))


def _as_length(model: ir.Model) -> None:
    """The mask is read as a number of tokens, which left padding tells apart."""
    feed = next(value for value in model.graph.inputs if value.name == "attention_mask")
    first = next(iter(model.graph))
    axes = store(model.graph, np.array([1]), "planted_axes")
    total = store(model.graph, np.int64(1), "planted_one")
    length = add_node(first, "ReduceSum", [feed, axes], keepdims=1)
    exclusive = store(model.graph, np.int64(1), "planted_axis")
    ones = add_node(
        first,
        "Add",
        [add_node(first, "Mul", [feed, store(model.graph, np.int64(0), "planted_none")]), total],
    )
    places = add_node(first, "CumSum", [ones, exclusive])
    inside = add_node(first, "LessOrEqual", [places, length])
    mask = add_node(first, "Cast", [inside], to=int(ir.DataType.INT64))
    planted = {node for node in model.graph if (node.name or "").startswith("planted")}
    for use in list(feed.uses()):
        if use.node not in planted:
            use.node.replace_input_with(use.idx, mask)


def _causal(model: ir.Model) -> None:
    """A token sees only those before it, as in a decoder."""
    add, place = _mask_add(model)
    upper = store(model.graph, np.int64(1), "planted_diagonal")
    scores = add.inputs[1 - place]
    full = add_node(
        add,
        "Add",
        [
            add_node(add, "Mul", [scores, store(model.graph, np.float32(0), "planted_zero")]),
            store(model.graph, np.float32(-1e9), "planted_hidden"),
        ],
    )
    triangle = add_node(add, "Trilu", [full, upper], upper=1)
    add.replace_input_with(1 - place, add_node(add, "Add", [scores, triangle]))


def _scaled(model: ir.Model) -> None:
    """By 1 / d instead of 1 / sqrt(d)."""
    mul = node_of(model, ATTENTION, "Mul")
    place = next(
        i
        for i, value in enumerate(mul.inputs)
        if value is not None and value.const_value is not None
    )
    change_input(mul, place, lambda scale: (scale * scale).astype(np.float32))


def _unscaled(model: ir.Model) -> None:
    mul = node_of(model, ATTENTION, "Mul")
    place = next(
        i
        for i, value in enumerate(mul.inputs)
        if value is not None and value.const_value is not None
    )
    change_input(mul, place, np.ones_like)


def _softmax_axis(model: ir.Model) -> None:
    node_of(model, ATTENTION, "Softmax").attributes["axis"] = ir.AttrInt64("axis", 2)


def _heads_reshaped(model: ir.Model) -> None:
    """(channels of a head, heads) where the query has (heads, channels of a head)."""
    query = nodes_of(model, ATTENTION, "Reshape")[0]
    sizes = query.inputs[1]
    assert sizes is not None
    shape = query.outputs[0].shape
    assert shape is not None
    heads, width = (int(size) for size in list(shape)[2:])  # type: ignore[call-overload]
    swapped = store(model.graph, np.array([0, 0, width, heads]), "planted_sizes")
    other = add_node(query, "Reshape", [query.inputs[0], swapped])
    turned = add_node(query, "Transpose", [other], perm=[0, 1, 3, 2])
    query.outputs[0].replace_all_uses_with(turned)
    model.graph.sort()


def _value_read_as_key(model: ir.Model) -> None:
    keys, values = nodes_of(model, ATTENTION, "Reshape")[1:3]
    keys.replace_input_with(0, values.inputs[0])
    model.graph.sort()


def _query_and_key_exchanged(model: ir.Model) -> None:
    """The transposed product: scores[j, i] where scores[i, j] belong."""
    query, keys = nodes_of(model, ATTENTION, "Reshape")[:2]
    one, other = query.inputs[0], keys.inputs[0]
    query.replace_input_with(0, other)
    keys.replace_input_with(0, one)
    model.graph.sort()


def _kept_away(model: ir.Model) -> None:
    """The context is joined without its heads being brought together first."""
    transpose = nodes_of(model, ATTENTION, "Transpose")[-1]
    transpose.attributes["perm"] = ir.AttrInt64s("perm", [0, 1, 2, 3])


def _context(site: Site) -> Naming:
    site.edit(_kept_away)
    reader = f"{BLOCK}.attention.output.dense.input_quantizer"
    return drifted(Cause.OPERATOR, reader, Kind.QUANTIZER, maker=ATTENTION)


def _of_each(name: str, plant: Plant) -> tuple[Fault, ...]:
    """The fault in each placement."""
    return tuple(
        Fault(f"{name}, {base} placement", "attention", plant, base) for base in _PLACEMENTS
    )


FAULTS = (
    *_of_each("mask ignored in one block", _planted(_ignored, Cause.PADDING)),
    *_of_each("mask ignored", _planted(_ignored_everywhere, Cause.PADDING)),
    *_of_each("mask inverted", _planted(_inverted, Cause.PADDING)),
    *_of_each("mask as a length", _planted(_as_length, Cause.PADDING)),
    *_of_each("padding hidden by -5", _planted(lambda m: _weak(m, -5.0), Cause.PADDING)),
    *_of_each("causal mask", _planted(_causal, Cause.MASK)),
    *_of_each("softmax scale 1/d", _planted(_scaled, Cause.SOFTMAX)),
    Fault("scores not scaled", "attention", _planted(_unscaled, Cause.SOFTMAX)),
    Fault("softmax over the queries", "attention", _planted(_softmax_axis, Cause.SOFTMAX)),
    *_of_each("heads of the query reshaped", _planted(_heads_reshaped, Cause.SCORES)),
    Fault("value in the place of the key", "attention", _planted(_value_read_as_key, Cause.SCORES)),
    *_of_each(
        "query and key exchanged in the product",
        _planted(_query_and_key_exchanged, Cause.SCORES),
    ),
    *_of_each("heads of the context joined wrongly", _context),
)
