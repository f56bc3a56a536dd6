"""Float attention as products, scaling, mask and softmax in; one `Attention` of opset 23 out.

onnxruntime's kernel for it multiplies, scales and adds in the order of the separate nodes, without
writing scores and transposed heads to memory in between. TensorRT and the portable file keep the
separate nodes, which every reader knows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from passes.constants import constant_array, drop_unread_node, free_name, readers
from passes.contract import GraphPass, Rewritten
from passes.ledger import Change, Entry, Skip
from passes.opsets import check_opset, declare_opset
from passes.provenance import MODULE_KEY, module_of

__all__ = ["FuseAttention"]

OPSET = 23  # the first with Attention
IR_VERSION = 11  # the first that may declare it
_HEADS_OUT, _KEYS_OUT = (0, 2, 1, 3), (0, 2, 3, 1)  # rows, tokens, heads, channels
_HEADS = 2  # the axis before they are transposed
_SCORES = frozenset({"MatMul", "Mul"})


@dataclass(frozen=True)
class _Attention:
    """The values around one attention, each (batch, sequence, heads · channels)."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    mask: ir.Value | None  # added to the scores
    scale: float
    heads: int
    last: ir.Node  # whose output is the attention's


class _NoMatch(Exception):
    """Why a softmax is not fused."""


class FuseAttention(GraphPass):
    """Fuses the attention around each Softmax between two products of heads.

    One whose products or probabilities are quantized, or that is written in another way, is left
    alone with the reason. Every model after it declares opset 23.
    """

    def requires(self, model: ir.Model) -> None:
        """Raises `RefusedGraph` for a graph that would mean something else in opset 23."""
        super().requires(model)
        check_opset(model, "Attention", OPSET)

    def call(self, model: ir.Model) -> Rewritten:
        """Rewrite every graph; a model with Attention in it declares the versions that have it."""
        result = super().call(model)
        if result.modified:
            declare_opset(model, OPSET, IR_VERSION)
        return result

    def rewrite(self, graph: ir.Graph) -> Iterator[Entry]:
        """One entry per Softmax."""
        for node in [each for each in graph if each.op_type == "Softmax"]:
            try:
                found = _attention_around(node)
            except _NoMatch as reason:
                yield Skip.at(node, str(reason))
            else:
                yield Change.at(node, "fused with its products, scale and mask")
                _fuse(graph, node, found)


def _fuse(graph: ir.Graph, softmax: ir.Node, found: _Attention) -> None:
    old = found.last.outputs[0]
    inputs = [found.query, found.key, found.value, *([found.mask] if found.mask else [])]
    node = ir.node(
        "Attention",
        inputs,
        attributes={
            "q_num_heads": found.heads,
            "kv_num_heads": found.heads,
            "scale": found.scale,
        },
        num_outputs=1,
        name=softmax.name,
        metadata_props={MODULE_KEY: module_of(softmax)},
    )
    new = node.outputs[0]
    new.name, new.type, new.shape = free_name(graph, f"{old.name}_fused"), old.type, old.shape
    graph.insert_after(found.last, node)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    _drop_chain(found.last)


def _drop_chain(node: ir.Node) -> None:
    """Remove it and, from there backwards, all that nothing else reads."""
    sources = [value.producer() for value in node.inputs if value is not None]
    drop_unread_node(node)
    if node.graph is None:
        for source in dict.fromkeys(filter(None, sources)):
            if source.graph is not None:
                _drop_chain(source)


def _attention_around(softmax: ir.Node) -> _Attention:
    axis = softmax.attributes.get_int("axis", -1)
    if axis not in {-1, 3}:
        raise _NoMatch(f"the softmax is over axis {axis}")
    context = _only_reader(softmax.outputs[0], "MatMul")
    if context.inputs[0] is not softmax.outputs[0]:
        raise _NoMatch("the probabilities are not the left operand of their product")
    rows = _only_reader(context.outputs[0], "Transpose")
    last = _only_reader(rows.outputs[0], "Reshape")
    scores, mask = _masked(softmax)
    product, scale = _scaled(scores)
    query, heads = _split(product.inputs[0], _HEADS_OUT)
    key, key_heads = _split(product.inputs[1], _KEYS_OUT)
    value, value_heads = _split(context.inputs[1], _HEADS_OUT)
    if _perm(rows) != _HEADS_OUT or len({heads, key_heads, value_heads}) > 1:
        raise _NoMatch("the heads are not split and joined in the same way")
    _check_rows(query, last.outputs[0])
    return _Attention(query, key, value, mask, scale, heads, last)


def _masked(softmax: ir.Node) -> tuple[ir.Node, ir.Value | None]:
    """What makes the scores, and the mask that is added to them."""
    source = _producer(softmax.inputs[0])
    if source.op_type != "Add":
        return source, None
    first, second = source.inputs
    scores, mask = (first, second) if _makes_scores(first) else (second, first)
    if not _makes_scores(scores):
        raise _NoMatch(f"the scores come from {_producer(first).op_type}")
    _only_reader(scores, "Add")
    if mask is None or mask.shape is None or len(mask.shape) != 4 or mask.shape[2] == 1:
        raise _NoMatch("the mask is not one of four axes with a row for every query")
    _only_reader(source.outputs[0], "Softmax")
    return _producer(scores), mask


def _makes_scores(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return node is not None and node.op_type in _SCORES


def _scaled(scores: ir.Node) -> tuple[ir.Node, float]:
    """The product of queries and keys, and what it is multiplied by."""
    _only_reader(scores.outputs[0], "Add", "Softmax")
    if scores.op_type == "MatMul":
        return scores, 1.0
    factor = constant_array(scores.inputs[1]) if scores.op_type == "Mul" else None
    if factor is None or factor.size != 1:
        raise _NoMatch(f"the scores come from {scores.op_type}")
    product = _producer(scores.inputs[0])
    if product.op_type != "MatMul":
        raise _NoMatch(f"the scores come from {product.op_type}")
    _only_reader(product.outputs[0], scores.op_type)
    return product, float(factor.reshape(()))


def _split(heads: ir.Value | None, perm: tuple[int, ...]) -> tuple[ir.Value, int]:
    """The value that was reshaped to heads and transposed by `perm`, and how many heads."""
    turned = _producer(heads)
    if turned.op_type != "Transpose" or _perm(turned) != perm:
        raise _NoMatch(f"a side of a product comes from {turned.op_type}")
    _only_reader(turned.outputs[0], "MatMul")
    parted = _producer(turned.inputs[0])
    if parted.op_type != "Reshape":
        raise _NoMatch(f"heads are made by {parted.op_type}")
    _only_reader(parted.outputs[0], "Transpose")
    shape = parted.outputs[0].shape
    count = None if shape is None or len(shape) != 4 else shape[_HEADS]
    if not isinstance(count, int):
        raise _NoMatch("how many heads there are is not recorded")
    source = parted.inputs[0]
    assert source is not None  # a Reshape reads two values
    _check_rows(source, parted.outputs[0])
    return source, count


def _check_rows(one: ir.Value, other: ir.Value) -> None:
    """Both begin with the same two axes, batch and sequence, and all heads have one axis more."""
    shapes = [each.shape for each in (one, other)]
    known = [tuple(shape)[:2] for shape in shapes if shape is not None and len(shape) >= 3]
    unnamed = {ir.SymbolicDim(None)} & {axis for axes in known for axis in axes}
    if len(known) < 2 or known[0] != known[1] or unnamed or len(one.shape or ()) != 3:
        raise _NoMatch("heads are not split from batch, sequence and channels and joined to them")


def _producer(value: ir.Value | None) -> ir.Node:
    node = None if value is None else value.producer()
    if node is None:
        raise _NoMatch("a part of it is fed or stored")
    return node


def _only_reader(value: ir.Value | None, *kinds: str) -> ir.Node:
    found = [] if value is None else list(readers(value))
    if len(found) != 1 or (value is not None and value.is_graph_output()):
        raise _NoMatch(f"something else than {kinds[0]} reads a part of it")
    if found[0].op_type not in kinds:
        raise _NoMatch(f"{found[0].op_type} reads a part of it")
    return found[0]


def _perm(transpose: ir.Node) -> tuple[int, ...]:
    return tuple(transpose.attributes.get_ints("perm", ()))
