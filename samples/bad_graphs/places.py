"""Where a mutation takes place, and the edits that mutations are made of."""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes import LinearLayer, linear_layers, module_of
from passes.lint.attention import Attention, attentions
from passes.lint.fixes.parameters import replace_constant
from passes.sparsity import SPARSITY_KEY

__all__ = [
    "DENSE",
    "DOWN",
    "QUERY",
    "SOFTMAX",
    "UP",
    "add",
    "add_pair",
    "attention_of",
    "constant",
    "densify",
    "dequantize_of",
    "drop_pair",
    "floats_of",
    "layer_of",
    "leave",
    "node_of",
    "pair_of",
    "quantize_of",
    "set_pair",
]

QUERY, DENSE, UP = "query", "attention.output.dense", "intermediate.dense"
DOWN = "layer.0.output.dense"
SOFTMAX = "softmax_quantizer"


def layer_of(model: ir.Model, module: str) -> LinearLayer:
    """The first linear layer whose module ends in `module`."""
    return next(each for each in linear_layers(model.graph) if each.module.endswith(module))


def quantize_of(model: ir.Model, module: str) -> ir.Node:
    """The first QuantizeLinear whose module ends in `module`."""
    return next(
        node
        for node in model.graph
        if node.op_type == "QuantizeLinear" and module_of(node).endswith(module)
    )


def pair_of(model: ir.Model, module: str) -> tuple[ir.Node, ir.Node]:
    """QuantizeLinear and DequantizeLinear of a module."""
    quantize = quantize_of(model, module)
    return quantize, quantize.outputs[0].uses()[0].node


def attention_of(model: ir.Model) -> Attention:
    """The first attention."""
    return next(iter(attentions(model)))


def node_of(model: ir.Model, kind: str) -> ir.Node:
    """The first node of an operator."""
    return next(node for node in model.graph if node.op_type == kind)


def add(
    model: ir.Model, before: ir.Node, kind: str, inputs: list[ir.Value | None], **attributes: object
) -> ir.Value:
    """A new node in front of `before`, of the same module; returns its output."""
    domain = str(attributes.pop("domain", ""))
    made = ir.node(kind, inputs, attributes, domain=domain, name=_unused_name(model, kind))
    made.metadata_props.update(before.metadata_props)
    made.outputs[0].name = f"{made.name}_output"
    model.graph.insert_before(before, made)
    return made.outputs[0]


def constant(model: ir.Model, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """A new initializer."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=tensor.shape)
    value.type = ir.TensorType(tensor.dtype)
    model.graph.register_initializer(value)
    return value


def add_pair(model: ir.Model, value: ir.Value, reader: ir.Node, scale: float) -> ir.Value:
    """A quantizer between `value` and one of its readers."""
    size = constant(model, f"scale_{reader.name}", np.array(scale, np.float32))
    zero = constant(model, f"zero_{reader.name}", np.array(0, np.int8))
    codes = add(model, reader, "QuantizeLinear", [value, size, zero], saturate=1)
    result = add(model, reader, "DequantizeLinear", [codes, size, zero])
    reader.replace_input_with(list(reader.inputs).index(value), result)
    return result


def drop_pair(model: ir.Model, module: str) -> None:
    """Let the readers of a quantized value read the value itself."""
    quantize, dequantize = pair_of(model, module)
    value = quantize.inputs[0]
    assert value is not None
    dequantize.outputs[0].replace_all_uses_with(value)
    model.graph.remove([dequantize, quantize], safe=True)


def set_pair(model: ir.Model, module: str, index: int, array: npt.NDArray[np.generic]) -> None:
    """Give both nodes of a quantizer another scale (1) or zero-point (2)."""
    quantize, dequantize = pair_of(model, module)
    for node in (quantize, dequantize):
        replace_constant(node, index, array)
    if index != 1:
        quantize.outputs[0].type = ir.TensorType(ir.tensor(array).dtype)


def dequantize_of(layer: LinearLayer) -> ir.Node:
    """The DequantizeLinear of a layer's weight."""
    assert layer.weight.dequantize is not None
    return layer.weight.dequantize.node


def floats_of(layer: LinearLayer) -> npt.NDArray[np.float32]:
    """The weight of a layer as floats, as it lies in the file."""
    assert layer.weight.scale is not None
    return (layer.weight.stored * layer.weight.scale).astype(np.float32)


def densify(model: ir.Model, module: str) -> None:
    """No zeros left, and no promise of any."""
    layer = layer_of(model, module)
    replace_constant(dequantize_of(layer), 0, layer.weight.stored | 1)
    layer.node.metadata_props.pop(SPARSITY_KEY)


def leave(model: ir.Model) -> None:
    """The graph is good; what it is built for is not."""


def _unused_name(model: ir.Model, kind: str) -> str:
    taken = {node.name for node in model.graph}
    return next(name for n in range(len(taken) + 1) if (name := f"added_{kind}_{n}") not in taken)
