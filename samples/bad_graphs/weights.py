"""Stored weights that are not integers in the form that a product reads."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes import module_of
from passes.constants import constant_array
from passes.lint.fixes.parameters import replace_constant
from passes.numerics import INT8_WEIGHT, quantize, symmetric_scales
from samples.bad_graphs.bad_graph import BadGraph, Mutation
from samples.bad_graphs.places import UP, add, constant, dequantize_of, floats_of, layer_of

__all__ = ["GRAPHS"]


def _moved_codes(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    node = dequantize_of(layer)
    codes = constant(model, "rows", np.ascontiguousarray(layer.weight.stored.T))
    node.replace_input_with(0, add(model, node, "Transpose", [codes], perm=[1, 0]))


def _in_between(
    kind: str, others: Callable[[int, int], list[npt.NDArray[np.generic]]], **attributes: int
) -> Mutation:
    """An operator between the codes (k, n) and their DequantizeLinear that changes nothing."""

    def mutate(model: ir.Model) -> None:
        layer = layer_of(model, UP)
        node, inputs = dequantize_of(layer), others(*layer.weight.shape)
        extra = [constant(model, f"operand_{i}", array) for i, array in enumerate(inputs)]
        node.replace_input_with(0, add(model, node, kind, [node.inputs[0], *extra], **attributes))

    return mutate


def _halves(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    node, half = dequantize_of(layer), layer.weight.shape[1] // 2
    left = constant(model, "left", layer.weight.stored[:, :half])
    right = constant(model, "right", layer.weight.stored[:, half:])
    node.replace_input_with(0, add(model, node, "Concat", [left, right], axis=1))


def _float_storage(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    node = dequantize_of(layer)
    weight = constant(model, "float_weight", floats_of(layer))
    codes = add(model, node, "QuantizeLinear", [weight, *node.inputs[1:]], axis=1)
    node.replace_input_with(0, codes)


def _transposed_weight(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    node = dequantize_of(layer)
    replace_constant(node, 0, np.ascontiguousarray(layer.weight.stored.T))
    node.attributes["axis"] = ir.AttrInt64("axis", 0)
    node.outputs[0].shape = ir.Shape(layer.weight.shape[::-1])
    turned = add(model, layer.node, "Transpose", [node.outputs[0]], perm=[1, 0])
    layer.node.replace_input_with(1, turned)


def _scaled_table(model: ir.Model) -> None:
    """The table of words as INT8 codes with a scale per row, dequantized before the look-up."""
    node = next(n for n in model.graph if module_of(n).endswith("word_embeddings"))
    table = constant_array(node.inputs[0])
    assert table is not None
    scale = symmetric_scales(table, axis=0)
    codes = constant(model, "word_codes", quantize(table, scale, INT8_WEIGHT, axis=0))
    scales = constant(model, "word_scales", scale)
    node.replace_input_with(0, add(model, node, "DequantizeLinear", [codes, scales], axis=0))


GRAPHS = (
    BadGraph("moved-codes", _moved_codes, "Transpose"),
    BadGraph("moved-codes", _in_between("Gather", lambda k, n: [np.arange(k)], axis=0), "Gather"),
    BadGraph("moved-codes", _in_between("Reshape", lambda k, n: [np.array([k, n])]), "Reshape"),
    BadGraph(
        "moved-codes",
        _in_between("Clip", lambda k, n: [np.array(-127, np.int8), np.array(127, np.int8)]),
        "Clip",
    ),
    BadGraph(
        "moved-codes",
        _in_between("Slice", lambda k, n: [np.array([0]), np.array([k]), np.array([0])]),
        "Slice",
    ),
    BadGraph("moved-codes", _halves, "Concat"),
    BadGraph("float-storage", _float_storage),
    BadGraph("transposed-weight", _transposed_weight),
    BadGraph(
        "scaled-table",
        _scaled_table,
        unseen="one kernel scales the whole table in every run, where one scaled its rows before",
    ),
)
