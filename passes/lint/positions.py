"""A graph in, its tables of positions out, and how many tokens each of them is for."""

from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np
import onnx_ir as ir

from passes.constants import constant, constant_array
from passes.lint.walk import MOVERS, descendants, producer, walk_back

__all__ = ["IsConstant", "positions"]

IsConstant = Callable[[ir.Value | None], bool]

_SAME_IDS = MOVERS | {"Cast", "Expand"}
_SAME_FOR_ALL = {"Cast", "Expand"}  # of stored ids, (1, tokens)
_CHOOSERS = {"GatherElements", "Slice"}
_TO_TABLE = {"Cast", "DequantizeLinear"}
_TO_SUM = MOVERS | {"Cast", "DequantizeLinear", "Expand"}


def positions(
    nodes: Iterable[ir.Node], inputs: Collection[ir.Value], is_constant: IsConstant
) -> Iterator[tuple[ir.Node, int]]:
    """Every look-up in a table of positions, with the tokens that it allows.

    A table whose rows are not chosen by an input itself, since position ids are computed; or one of
    which the first rows are cut off, to be added.
    """
    for node in nodes:
        if node.domain or not node.inputs or is_constant(node.outputs[0]):
            continue
        tensor = constant(walk_back(node.inputs[0], _TO_TABLE))
        shape = () if tensor is None else tuple(map(int, tensor.shape.numpy()))
        if len(shape) < 2 or shape[-1] == 1:
            continue  # the scales of a table may have as many rows
        if node.op_type == "Gather" and len(shape) == 2:
            if walk_back(node.inputs[1], {"Cast"}) not in inputs:
                yield node, _tokens(node.inputs[1], shape[0])
        elif node.op_type == "Slice" and (start := _first_row(node, shape)) is not None:
            yield node, shape[-2] - start


def _tokens(ids: ir.Value | None, rows: int) -> int:
    """The tokens whose ids are all below `rows`; those that count from 2 have two less.

    Stored ids are cut to the tokens or, as RoBERTa's of token types, looked up by position.
    """
    source, offset = _source(ids, 0)
    if source is not None and source.op_type in _CHOOSERS:
        stored = constant_array(walk_back(source.inputs[0], _SAME_FOR_ALL))
        if stored is not None and stored.ndim:
            beyond = np.flatnonzero(stored.reshape(-1, stored.shape[-1])[0] + offset >= rows)
            allowed = int(beyond[0]) if beyond.size else stored.shape[-1]
            return allowed if source.op_type == "Slice" else _tokens(source.inputs[1], allowed)
    return rows - offset


def _source(value: ir.Value | None, offset: int) -> tuple[ir.Node | None, int]:
    """The node that counts, and the id that it gives the first token; 0 where none is found.

    A CumSum of a mask counts from 1. What a mask multiplies is an id or 0.
    """
    node = producer(value)
    if node is None or node.domain:
        return None, 0
    if node.op_type in _CHOOSERS:
        return node, offset
    if node.op_type == "CumSum":
        return node, offset + 1 - node.attributes.get_int("exclusive", 0)
    if node.op_type == "Range":
        start = _number(node.inputs[0])
        return (None, 0) if start is None else (node, offset + start)
    if node.op_type in _SAME_IDS:
        return _source(node.inputs[0], offset)
    if node.op_type == "Mul":
        found = (_source(each, offset) for each in node.inputs if _number(each) is None)
        return next((each for each in found if each[0] is not None), (None, 0))
    if node.op_type in {"Add", "Sub"}:
        first, second = node.inputs
        if (number := _number(second)) is not None:
            return _source(first, offset + (number if node.op_type == "Add" else -number))
        if node.op_type == "Add" and (number := _number(first)) is not None:
            return _source(second, offset + number)
    return None, 0


def _first_row(node: ir.Node, shape: tuple[int, ...]) -> int | None:
    """The first row that a Slice leaves of a table that is added then; None for another Slice."""
    starts, axes = (
        constant_array(node.inputs[index]) if len(node.inputs) > index else None for index in (1, 3)
    )
    if len(shape) > 3 or shape[:-2] not in {(), (1,)} or starts is None:
        return None
    cut = [int(axis) % len(shape) for axis in (range(starts.size) if axes is None else axes)]
    is_added = any(reader.op_type == "Add" for reader in descendants(node.outputs[0], _TO_SUM))
    if len(shape) - 2 not in cut or not is_added:
        return None
    return max(int(starts.ravel()[cut.index(len(shape) - 2)]), 0)


def _number(value: ir.Value | None) -> int | None:
    array = constant_array(value)
    return None if array is None or array.size != 1 else int(array.ravel()[0])
