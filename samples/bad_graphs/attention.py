"""Attention that is not fused."""

import numpy as np
import onnx_ir as ir

from passes.lint.walk import walk_back
from samples.bad_graphs.bad_graph import BadGraph, Mutation
from samples.bad_graphs.places import (
    SOFTMAX,
    add,
    add_pair,
    attention_of,
    constant,
    densify,
    drop_pair,
    set_pair,
)

__all__ = ["GRAPHS"]


def _float_attention(model: ir.Model) -> None:
    _float_operands(model, "query", "key", "value")
    drop_pair(model, SOFTMAX)


def _quantized_scores(model: ir.Model) -> None:
    attention = attention_of(model)
    scores = attention.scores.outputs[0]
    add_pair(model, scores, scores.uses()[0].node, 0.1)


def _guard(model: ir.Model) -> None:
    softmax = attention_of(model).softmax
    (use,) = softmax.outputs[0].uses()
    condition = add(model, use.node, "IsNaN", [softmax.outputs[0]])
    nothing = constant(model, "nothing", np.array(0, np.float32))
    guarded = add(model, use.node, "Where", [condition, nothing, softmax.outputs[0]])
    use.node.replace_input_with(use.idx, guarded)


def _float_operands(model: ir.Model, *names: str) -> None:
    """Leave these operands of the attention in float; dense, so that no INT8 output is missed."""
    for name in names:
        drop_pair(model, f"{name}.output_quantizer")
        densify(model, name)


def _heads_of(size: int) -> Mutation:
    """Cut the same channels into heads of another size."""

    def mutate(model: ir.Model) -> None:
        query = walk_back(attention_of(model).scores.inputs[0], {"Transpose"})
        shape = query.producer().inputs[1].producer()  # Concat(batch, sequence, -1, size)
        old = int(shape.inputs[-1].const_value.numpy()[0])
        heads = int(attention_of(model).softmax.outputs[0].shape[1])
        shape.replace_input_with(3, constant(model, "head_size", np.array([size])))
        new = {old: size, heads: heads * old // size}
        for value in (value for node in model.graph for value in node.outputs):
            if value.shape is not None and len(value.shape) == 4:
                value.shape = ir.Shape([new.get(each, each) for each in value.shape])

    return mutate


def _unknown_heads(model: ir.Model) -> None:
    """Say how many heads there are, and let each have what is left over."""
    softmax = attention_of(model).softmax.outputs[0]
    query = walk_back(attention_of(model).scores.inputs[0], {"Transpose"})
    shape = query.producer().inputs[1].producer()  # Concat(batch, sequence, -1, size)
    shape.replace_input_with(2, constant(model, "heads", np.array([int(softmax.shape[1])])))
    shape.replace_input_with(3, constant(model, "the_rest", np.array([-1])))
    for value in (value for node in model.graph for value in node.outputs):
        if value.shape is not None and len(value.shape) == 4:
            value.shape = None


def _first_product(model: ir.Model) -> None:
    _float_operands(model, "value")
    drop_pair(model, SOFTMAX)


GRAPHS = (
    BadGraph("partial-attention", lambda model: drop_pair(model, SOFTMAX), "no probabilities"),
    BadGraph("partial-attention", _first_product, "the first product alone"),
    BadGraph(
        "partial-attention",
        lambda model: _float_operands(model, "query", "key"),
        "the second product alone",
    ),
    *(BadGraph("attention-head-size", _heads_of(size), f"{size} channels") for size in (8, 128)),
    BadGraph("unknown-head-size", _unknown_heads),
    BadGraph("float-attention", _float_attention),
    BadGraph("quantized-scores", _quantized_scores),
    BadGraph(
        "softmax-scale",
        lambda model: set_pair(model, SOFTMAX, 1, np.array(1 / 255, np.float32)),
        unseen="the same kernels clip what lies above 127/255",
    ),
    BadGraph("sdpa-guard", _guard),
)
