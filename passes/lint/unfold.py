"""A graph in, a copy that says what its file leaves to the reader: function bodies and shapes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, ShapeInferencePass, shape_inference

__all__ = ["unfold"]

_GRAPHS = {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}


def unfold(model: ir.Model) -> ir.Model:
    """A copy with every local function in the place of its calls and every shape that follows.

    A call that TensorRT cannot resolve either stays as it is, and so do shapes that ONNX cannot
    infer. The copy is to be read, not run: it takes functions of other opsets as they are written.
    """
    copy = _inlined(model.clone())
    if copy is None:
        copy = model.clone()
    with _silent(shape_inference.logger):  # a graph that ONNX cannot infer is read without
        ShapeInferencePass(check_type=False, strict_mode=False)(copy)
    return copy


def _inlined(model: ir.Model) -> ir.Model | None:
    """The model with the functions inlined that can be; None for functions that call themselves."""
    unresolved = {
        node.op_identifier()
        for graph in _bodies(model)
        for node in graph
        if not _is_resolved(node, model)
    }
    for function in model.functions.values():
        function.opset_imports.update(model.opset_imports)
    try:
        InlinePass(criteria=lambda each: each.identifier() not in unresolved)(model)
    except (ValueError, ir.passes.InvariantError, ir.passes.PassError):
        return None
    return model


def _bodies(model: ir.Model) -> Iterator[ir.Graph]:
    yield from model.graphs()
    for function in model.functions.values():
        yield function.graph


def _is_resolved(node: ir.Node, model: ir.Model) -> bool:
    """Whether a call gives the function what it takes, and no graph as an attribute."""
    function = model.functions.get(node.op_identifier())
    return function is None or (
        len(node.inputs) == len(function.inputs)
        and not any(each.type in _GRAPHS for each in node.attributes.values())
    )


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
