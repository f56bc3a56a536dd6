"""Edits of an ONNX file, each a fault that a deployment can have."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from parity_models import layer_of, node_of, replace_constant

from passes import MODULE_KEY, module_of

Edit = Callable[[ir.Model], None]
Array = NDArray[np.generic]


def change_weight(module: str, change: Callable[[Array], Array]) -> Edit:
    """Replace the stored matrix of one linear, (in, out) or as the graph has it."""

    def edit(model: ir.Model) -> None:
        layer = layer_of(model, module)
        dequantize = layer.weight.path[0] if layer.weight.path else layer.node
        index = 0 if layer.weight.path else 1
        replace_constant(dequantize, index, change)

    return edit


def flip_code(weight: Array) -> Array:
    """Another sign for the largest code."""
    at = np.unravel_index(int(np.abs(weight.astype(np.int16)).argmax()), weight.shape)
    weight[at] = -weight[at]
    return weight


def change_weight_scale(module: str, change: Callable[[Array], Array]) -> Edit:
    """Replace the scales of one linear's weight."""

    def edit(model: ir.Model) -> None:
        replace_constant(layer_of(model, module).weight.path[0], 1, change)

    return edit


def change_node(module: str, op_type: str, index: int, change: Callable[[Array], Array]) -> Edit:
    """Replace one constant input of one node."""

    def edit(model: ir.Model) -> None:
        replace_constant(node_of(model, module, op_type), index, change)

    return edit


def change_attribute(module: str, op_type: str, name: str, value: float | str) -> Edit:
    """Set one attribute of one node."""

    def edit(model: ir.Model) -> None:
        node = node_of(model, module, op_type)
        attribute = (
            ir.AttrFloat32(name, value) if isinstance(value, float) else ir.AttrString(name, value)
        )
        node.attributes.add(attribute)

    return edit


def scale_softmax_input(module: str, factor: float) -> Edit:
    """Multiply attention scores, as a softmax scale that is wrong does."""

    def edit(model: ir.Model) -> None:
        softmax = node_of(model, module, "Softmax")
        scores = softmax.inputs[0]
        assert scores is not None
        constant = ir.Value(name="wrong_factor", const_value=ir.tensor(np.float32(factor)))
        model.graph.register_initializer(constant)
        times = ir.node("Mul", [scores, constant])
        times.metadata_props[MODULE_KEY] = module
        model.graph.insert_before(softmax, times)
        softmax.replace_input_with(0, times.outputs[0])

    return edit


def drop_mask(module: str) -> Edit:
    """Let attention see padding: the softmax reads its scores from before the mask is added."""

    def edit(model: ir.Model) -> None:
        softmax = node_of(model, module, "Softmax")
        masked = softmax.inputs[0]
        assert masked is not None
        add = masked.producer()
        assert add is not None
        softmax.replace_input_with(0, add.inputs[0])

    return edit


def read_mask_as_length(model: ir.Model) -> None:
    """Hide what lies beyond as many tokens as the mask has ones: right only for right padding.

    It stands for onnxruntime's BERT optimizer, which fuses the mask into such a length.
    """
    (mask,) = (each for each in model.graph.inputs if each.name == "attention_mask")
    readers = [(use.node, use.idx) for use in mask.uses()]
    first = min((node for node, _ in readers), key=list(model.graph).index)

    def constant(name: str, array: Array) -> ir.Value:
        value = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
        model.graph.register_initializer(value)
        return value

    axis = constant("last_axis", np.array([1]))
    zero, one = (constant(f"int_{number}", np.array(number)) for number in (0, 1))
    shape = ir.node("Shape", [mask], {"start": 1, "end": 2})
    size = ir.node("Squeeze", [shape.outputs[0]])
    places = ir.node("Range", [zero, size.outputs[0], one])
    length = ir.node("ReduceSum", [mask, axis], {"keepdims": 1})
    within = ir.node("Less", [places.outputs[0], length.outputs[0]])
    read = ir.node("Cast", [within.outputs[0]], {"to": ir.DataType.INT64.value})
    model.graph.insert_before(first, [shape, size, places, length, within, read])
    for node, index in readers:
        node.replace_input_with(index, read.outputs[0])


def shift_logits(by: float) -> Edit:
    """Add one number to every logit, which changes no prediction."""

    def edit(model: ir.Model) -> None:
        layer = layer_of(model, "classifier")
        node = layer.node if layer.add is None else layer.add
        index = 2 if layer.add is None else 1
        replace_constant(node, index, lambda bias: bias + np.float32(by))

    return edit


def drop_quantizer(module: str) -> Edit:
    """Read the float value where the quantized one was read."""

    def edit(model: ir.Model) -> None:
        quantize = node_of(model, module, "QuantizeLinear")
        (use,) = quantize.outputs[0].uses()
        value = quantize.inputs[0]
        assert value is not None
        use.node.outputs[0].replace_all_uses_with(value)
        model.graph.remove([use.node, quantize], safe=True)

    return edit


def swap_scales(one: str, other: str) -> Edit:
    """Give two activation quantizers each other's scale."""

    def edit(model: ir.Model) -> None:
        nodes = [node_of(model, name, "QuantizeLinear") for name in (one, other)]
        scales = [node.inputs[1] for node in nodes]
        for node, scale in zip(nodes, reversed(scales), strict=True):
            for each in (node, *(use.node for use in node.outputs[0].uses())):
                each.replace_input_with(1, scale)

    return edit


def bypass(module: str, op_type: str) -> Edit:
    """Let the readers of a node read its first input instead."""

    def edit(model: ir.Model) -> None:
        node = node_of(model, module, op_type)
        node.outputs[0].replace_all_uses_with(node.inputs[0])
        model.graph.remove(node, safe=True)

    return edit


def exchange_operands(one: str, other: str, readers: str) -> Edit:
    """Let what reads the quantized values of two modules in `readers` read the other's."""

    def edit(model: ir.Model) -> None:
        values = [node_of(model, module, "DequantizeLinear").outputs[0] for module in (one, other)]
        uses = [
            next(use for use in value.uses() if module_of(use.node) == readers) for value in values
        ]
        for use, value in zip(uses, reversed(values), strict=True):
            use.node.replace_input_with(use.idx, value)
        model.graph.sort()

    return edit
