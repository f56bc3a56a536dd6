"""A graph in, its values that hold one row per sequence out: what poolers and heads read."""

from collections.abc import Collection

import onnx_ir as ir

from passes.constants import constant_array
from passes.lint.positions import IsConstant
from passes.lint.walk import MOVERS

__all__ = ["sequence_rows"]

_REDUCTIONS = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"}
)
# Their rows are those of the first input; others are shapes, indices, weights or parameters.
_ROWS_OF_FIRST = (
    MOVERS
    | _REDUCTIONS
    | {"Cast", "DequantizeLinear", "Gather", "Gemm", "MatMul", "QuantizeLinear", "Slice", "Split"}
)
_REPEAT = {"Expand", "Tile"}  # a row per sequence may become one per token again


def sequence_rows(model: ir.Model, is_constant: IsConstant) -> frozenset[ir.Value]:
    """Every value whose rows are a sequence's alone: one token of it, or a sum over its tokens,
    and what is computed from such rows.
    """
    lengths = _sequence_lengths(model)
    found: set[ir.Value] = set()
    for node in (node for graph in model.graphs() for node in graph):
        inputs = node.inputs[:1] if node.op_type in _ROWS_OF_FIRST else node.inputs
        data = [value for value in inputs if value is not None and not is_constant(value)]
        derived = bool(data) and node.op_type not in _REPEAT and found.issuperset(data)
        if data and (derived or _leaves_one_token(node, lengths)):
            found.update(node.outputs)
    return frozenset(found)


def _sequence_lengths(model: ir.Model) -> set[int]:
    """What the inputs fix of their second side."""
    shapes = (value.shape for value in model.graph.inputs)
    sides = (shape[1] for shape in shapes if shape is not None and len(shape) == 2)
    return {side for side in sides if isinstance(side, int)}


def _leaves_one_token(node: ir.Node, lengths: Collection[int]) -> bool:
    """Whether a node takes one token of every sequence, or reduces its tokens to one."""
    axes = () if node.domain else _single_axes(node)
    return any(_is_token_axis(node.inputs[0], axis, lengths) for axis in axes)


def _single_axes(node: ir.Node) -> tuple[int, ...]:
    """The axes of which `node` leaves one index."""
    if node.op_type in _REDUCTIONS:
        return tuple(node.attributes.get_ints("axes", ())) or _integers(node, 1)
    if node.op_type == "Gather":
        return (node.attributes.get_int("axis", 0),) if len(_integers(node, 1)) == 1 else ()
    if node.op_type == "Slice":
        starts, ends, axes = (_integers(node, index) for index in (1, 2, 3))
        pairs = zip(starts, ends, axes or range(len(starts)), strict=False)
        # From -1 on, whatever the end is, there is the last one.
        return tuple(axis for start, end, axis in pairs if end - start == 1 or start == -1)
    return ()


def _is_token_axis(value: ir.Value | None, axis: int, lengths: Collection[int]) -> bool:
    """Not channels, nor the parts of a packed projection: their sizes are fixed."""
    shape = None if value is None else value.shape
    if shape is None:
        return axis in {1, -2}
    axis += len(shape) if axis < 0 else 0
    if not 2 <= len(shape) <= 3 or not 0 <= axis < 2:
        return False
    size = shape[axis]
    return not isinstance(size, int) or size in lengths


def _integers(node: ir.Node, index: int) -> tuple[int, ...]:
    """The constant integers of an input; none where it is absent or computed."""
    array = constant_array(node.inputs[index]) if len(node.inputs) > index else None
    return () if array is None else tuple(int(each) for each in array.ravel())
