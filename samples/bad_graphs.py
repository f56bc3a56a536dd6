"""One good graph, and one mutation of it for every rule of the linter.

The good graph is `model.onnx` of any export with the `sparse` placement and square layers of 256
or more: every mutation finds its place by module name, in the first encoder block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from passes import LinearLayer, linear_layers, module_of
from passes.constants import store
from passes.lint.attention import Attention, attentions
from passes.lint.fixes.parameters import replace_constant
from passes.numerics import INT8_WEIGHT, quantize, symmetric_scales
from passes.sparsity import SPARSITY_KEY

__all__ = ["BAD_GRAPHS", "BadGraph"]

Mutation = Callable[[ir.Model], None]
QUERY, DENSE, UP, DOWN = "query", "attention.output.dense", "intermediate.dense", ".output.dense"


@dataclass(frozen=True)
class BadGraph:
    """A mutation that breaks one rule, and what the engine is to be built for."""

    rule: str
    mutate: Mutation
    options: Mapping[str, int] = field(default_factory=dict)  # of `lint`


# ------------------------------------------------------------------------------ finding places


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
    made = ir.node(kind, inputs, attributes, domain=domain, name=f"added_{kind}_{len(model.graph)}")
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


# ------------------------------------------------------------------------------ operators


def _dynamic_quantization(model: ir.Model) -> None:
    pooler = layer_of(model, "pooler.dense").node
    made = ir.node("DynamicQuantizeLinear", [pooler.inputs[0]], num_outputs=3, name="dynamic")
    model.graph.insert_before(pooler, made)
    for index, output in enumerate(made.outputs):
        output.name = f"dynamic_{index}"
    pooler.replace_input_with(0, add(model, pooler, "DequantizeLinear", list(made.outputs)))


def _foreign_gelu(model: ir.Model) -> None:
    gelu = node_of(model, "Gelu")
    model.opset_imports["com.microsoft"] = 1
    output = add(model, gelu, "FastGelu", [gelu.inputs[0]], domain="com.microsoft")
    output.shape, output.type = gelu.outputs[0].shape, gelu.outputs[0].type
    gelu.outputs[0].replace_all_uses_with(output)
    model.graph.remove(gelu, safe=True)


def _attention_operator(model: ir.Model) -> None:
    attention = attention_of(model)
    model.opset_imports[""] = 23
    key_transpose = attention.scores.inputs[1].producer()
    mask = attention.softmax.inputs[0].producer().inputs[1]
    key_transpose.attributes["perm"] = ir.AttrInt64s("perm", (0, 2, 1, 3))
    key_transpose.outputs[0].shape = None
    inputs = [*attention.scores.inputs, attention.context.inputs[1], mask]
    output = add(model, attention.context, "Attention", inputs)
    output.type = ir.TensorType(ir.DataType.FLOAT)
    attention.context.outputs[0].replace_all_uses_with(output)
    softmax_pair = pair_of(model, "softmax_quantizer")
    scale_and_mask = [attention.softmax.inputs[0].producer(), attention.scores]
    scaled = scale_and_mask[0].inputs[0].producer()
    model.graph.remove(
        [attention.context, *reversed(softmax_pair), attention.softmax, scale_and_mask[0]],
        safe=True,
    )
    model.graph.remove([scaled, attention.scores], safe=True)


def _convolution(model: ir.Model) -> None:
    pooler = layer_of(model, "pooler.dense")
    width = pooler.weight.shape[0]
    axes = constant(model, "pixel_axes", np.array([2, 3]))
    kernel = constant(model, "kernel", np.eye(width, dtype=np.float32)[:, :, None, None])
    pixels = add(model, pooler.node, "Unsqueeze", [pooler.data, axes])
    convolved = add(model, pooler.node, "Conv", [pixels, kernel])
    pooler.node.replace_input_with(0, add(model, pooler.node, "Squeeze", [convolved, axes]))


# ------------------------------------------------------------------------------ types of codes


def _int16_weight(model: ir.Model) -> None:
    model.opset_imports[""] = 21
    layer = layer_of(model, UP)
    replace_constant(dequantize_of(layer), 0, layer.weight.stored.astype(np.int16))
    replace_constant(dequantize_of(layer), 2, np.zeros(layer.weight.shape[1], np.int16))


def _fp8_activation(model: ir.Model) -> None:
    set_pair(model, f"{DENSE}.input_quantizer", 2, np.array(0, ml_dtypes.float8_e4m3fn))


def _int32_bias(model: ir.Model) -> None:
    _stored_bias(model, np.int32, 2**20)


def _int8_bias(model: ir.Model) -> None:
    _stored_bias(model, np.int8, 100)


def _stored_bias(model: ir.Model, kind: type[np.integer], limit: int) -> None:
    layer = layer_of(model, UP)
    codes = np.random.default_rng(0).integers(-limit, limit, layer.weight.shape[1]).astype(kind)
    stored = constant(model, "bias_codes", codes)
    scale = constant(model, "bias_scale", np.array(1 / limit, np.float32))
    layer.add.replace_input_with(1, add(model, layer.add, "DequantizeLinear", [stored, scale]))


def _int4_weight(model: ir.Model) -> None:
    model.opset_imports[""] = 21
    layer = layer_of(model, UP)
    codes = np.clip(layer.weight.stored, -7, 7).astype(ml_dtypes.int4)
    replace_constant(dequantize_of(layer), 0, codes)
    replace_constant(dequantize_of(layer), 2, np.zeros(layer.weight.shape[1], ml_dtypes.int4))


def _int4_blocks(model: ir.Model) -> None:
    _int4_weight(model)
    layer = layer_of(model, UP)
    node, (inputs, outputs) = dequantize_of(layer), layer.weight.shape
    blocks = inputs // 32
    node.attributes["axis"] = ir.AttrInt64("axis", 0)
    node.attributes["block_size"] = ir.AttrInt64("block_size", 32)
    replace_constant(node, 1, np.full((blocks, outputs), 0.01, np.float32))
    replace_constant(node, 2, np.zeros((blocks, outputs), ml_dtypes.int4))


# ------------------------------------------------------------------------------ zero-points


def _uint8_weight(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    codes = (layer.weight.stored.astype(np.int64) + 128).astype(np.uint8)
    replace_constant(dequantize_of(layer), 0, codes)
    replace_constant(dequantize_of(layer), 2, np.full(layer.weight.shape[1], 128, np.uint8))


def _shifted_weight(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    replace_constant(dequantize_of(layer), 2, np.ones(layer.weight.shape[1], np.int8))


# ------------------------------------------------------------------------------ scales


def _pruned_channel(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    scale = np.array(layer.weight.scale)
    scale[3] = 0
    replace_constant(dequantize_of(layer), 1, scale)


def _computed_scale(model: ir.Model) -> None:
    quantize, dequantize = pair_of(model, f"{DENSE}.output_quantizer")
    largest = add(model, quantize, "Abs", [layer_of(model, DENSE).data])
    largest = add(model, quantize, "ReduceMax", [largest], keepdims=0)
    codes = constant(model, "codes", np.array(127, np.float32))
    scale = add(model, quantize, "Div", [largest, codes])
    quantize.replace_input_with(1, scale)
    dequantize.replace_input_with(1, scale)


def _scale_along_inputs(model: ir.Model) -> None:
    node = dequantize_of(layer_of(model, UP))
    node.attributes["axis"] = ir.AttrInt64("axis", 0)


def _scale_per_channel(model: ir.Model) -> None:
    module = "layer.0.output.dense.input_quantizer"
    quantize, dequantize = pair_of(model, module)
    width = layer_of(model, UP).weight.shape[1]
    scale = float(quantize.inputs[1].const_value.numpy())
    set_pair(model, module, 1, np.linspace(scale, 2 * scale, width, dtype=np.float32))
    set_pair(model, module, 2, np.zeros(width, np.int8))
    for node in (quantize, dequantize):
        node.attributes["axis"] = ir.AttrInt64("axis", 2)


def _half_scale(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    data, node = layer.input_quantizer, layer.node
    scale = data.inputs[1].const_value.numpy().astype(np.float16)
    half = constant(model, "half_scale", scale)
    codes = [data.inputs[0], half, data.inputs[2]]
    node.replace_input_with(0, add(model, node, "DequantizeLinear", codes))
    weight = dequantize_of(layer)
    replace_constant(weight, 1, layer.weight.scale.astype(np.float16))
    product = node.outputs[0]
    for value in (weight.outputs[0], product):
        value.type = ir.TensorType(ir.DataType.FLOAT16)
    layer.add.replace_input_with(
        0, add(model, layer.add, "Cast", [product], to=int(ir.DataType.FLOAT))
    )


# ------------------------------------------------------------------------------ stored weights


def _moved_codes(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    node = dequantize_of(layer)
    codes = constant(model, "rows", np.ascontiguousarray(layer.weight.stored.T))
    node.replace_input_with(0, add(model, node, "Transpose", [codes], perm=[1, 0]))


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


# ------------------------------------------------------------------------------ linear layers


def _float_weight(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    layer.node.replace_input_with(1, constant(model, "float_weight", floats_of(layer)))
    model.graph.remove(dequantize_of(layer), safe=True)


def _float_input(model: ir.Model) -> None:
    drop_pair(model, f"{DENSE}.input_quantizer")


def _float_layer(model: ir.Model) -> None:
    _float_weight(model)
    layer = layer_of(model, UP)
    layer.node.replace_input_with(0, layer.input_quantizer.inputs[0].producer().inputs[0])


def _narrow_layer(model: ir.Model) -> None:
    layer = layer_of(model, "classifier")
    add_pair(model, layer.data, layer.node, 0.01)
    stored = layer.weight.stored
    codes = constant(model, "head_codes", np.rint(stored / 0.01).clip(-127, 127).astype(np.int8))
    scale = constant(model, "head_scale", np.full(len(stored), 0.01, np.float32))
    weight = add(model, layer.node, "DequantizeLinear", [codes, scale], axis=0)
    layer.node.replace_input_with(1, weight)


def _own_quantizer(model: ir.Model, factor: float) -> None:
    layer = layer_of(model, QUERY)
    quantize = layer.input_quantizer.inputs[0].producer()
    scale = float(quantize.inputs[1].const_value.numpy())
    layer.node.replace_input_with(0, quantize.inputs[0])
    add_pair(model, quantize.inputs[0], layer.node, np.float32(scale * factor))


def _quantized_gelu_input(model: ir.Model) -> None:
    gelu = node_of(model, "Gelu")
    add_pair(model, gelu.inputs[0], gelu, 0.02)


# ------------------------------------------------------------------------------ attention


def _float_attention(model: ir.Model) -> None:
    for name in ("query", "key", "value"):
        drop_pair(model, f"{name}.output_quantizer")
        _densify(model, name)
    drop_pair(model, "softmax_quantizer")


def _densify(model: ir.Model, module: str) -> None:
    """No zeros left, and no promise of any."""
    layer = layer_of(model, module)
    replace_constant(dequantize_of(layer), 0, layer.weight.stored | 1)
    layer.node.metadata_props.pop(SPARSITY_KEY)


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


# ------------------------------------------------------------------------------ sparsity


def _broken_stamp(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    replace_constant(dequantize_of(layer), 0, layer.weight.stored | 1)


def _sparse_along_outputs(model: ir.Model) -> None:
    layer = layer_of(model, UP)
    replace_constant(dequantize_of(layer), 0, np.ascontiguousarray(layer.weight.stored.T))
    layer.node.metadata_props.pop(SPARSITY_KEY)


def _float_residual(model: ir.Model) -> None:
    norm = layer_of(model, QUERY).input_quantizer.inputs[0].producer().inputs[0]
    quantized = pair_of(model, f"{DENSE}.output_quantizer")[1].outputs[0]
    (use,) = quantized.uses()
    use.node.replace_input_with(1 - use.idx, norm)


def _small_layers(model: ir.Model) -> None:
    up = layer_of(model, UP)
    gelu = node_of(model, "Gelu")
    ahead = gelu.outputs[0].uses()[0].node.outputs[0].uses()[0].node
    down = next(layer for layer in linear_layers(model.graph) if layer.input_quantizer is ahead)
    for index, array in enumerate((up.weight.stored[:, :128], up.weight.scale[:128])):
        replace_constant(dequantize_of(up), index, array)
    replace_constant(dequantize_of(up), 2, np.zeros(128, np.int8))
    replace_constant(up.add, 1, up.bias.const_value.numpy()[:128])
    replace_constant(dequantize_of(down), 0, down.weight.stored[:128])
    for node in model.graph:
        for value in node.outputs:
            value.shape = None if value.name not in {"logits"} else value.shape


def _scaled_table(model: ir.Model) -> None:
    """The table of words as INT8 codes with a scale per row, dequantized before the look-up."""
    node = next(n for n in model.graph if module_of(n).endswith("word_embeddings"))
    table = node.inputs[0].const_value.numpy()
    scale = symmetric_scales(table, axis=0)
    replace_constant(node, 0, quantize(table, scale, INT8_WEIGHT, axis=0))
    column = store(model.graph, scale, "word_scales")
    dequantize = ir.node("DequantizeLinear", [node.inputs[0], column], {"axis": 0}, name="words_DQ")
    dequantize.metadata_props.update(node.metadata_props)
    graph = model.graph
    graph.insert_before(node, dequantize)
    node.replace_input_with(0, dequantize.outputs[0])


def _long_tables(model: ir.Model) -> None:
    for node in model.graph:
        table = node.inputs[0].const_value if node.inputs and node.inputs[0] is not None else None
        if table is not None and node.op_type == "Gather" and "position" in module_of(node):
            replace_constant(node, 0, np.resize(table.numpy(), (1024, table.shape[1])))
            ids = node.inputs[1].producer()
            replace_constant(ids, 0, np.arange(1024, dtype=np.int64)[None])


def _nothing(model: ir.Model) -> None:
    """The graph is good; what it is built for is not."""


def _pair(module: str, index: int, array: npt.NDArray[np.generic]) -> Mutation:
    return lambda model: set_pair(model, module, index, array)


_OUTPUT, _SOFTMAX = f"{DENSE}.output_quantizer", "softmax_quantizer"

BAD_GRAPHS: tuple[BadGraph, ...] = (
    BadGraph("integer-operator", _dynamic_quantization),
    BadGraph("foreign-operator", _foreign_gelu),
    BadGraph("attention-operator", _attention_operator),
    BadGraph("convolution-for-linear", _convolution),
    BadGraph("code-type", _int16_weight),
    BadGraph("fp8-capability", _fp8_activation),
    BadGraph("stored-bias", _int32_bias),
    BadGraph("int4-per-channel", _int4_weight),
    BadGraph("int4-blocks-times-int8", _int4_blocks),
    BadGraph("activation-zero-point", _pair(_OUTPUT, 2, np.array(3, np.int8))),
    BadGraph("uint8-around-128", _pair(_OUTPUT, 2, np.array(128, np.uint8))),
    BadGraph("uint8-activation", _pair(_SOFTMAX, 2, np.array(0, np.uint8))),
    BadGraph("weight-zero-point", _shifted_weight),
    BadGraph("uint8-weight", _uint8_weight),
    BadGraph("activation-scale", _pair(_OUTPUT, 1, np.array(0, np.float32))),
    BadGraph("weight-scale", _pruned_channel),
    BadGraph("computed-scale", _computed_scale),
    BadGraph("weight-scale-axis", _scale_along_inputs),
    BadGraph("per-channel-activation", _scale_per_channel),
    BadGraph("half-scale", _half_scale),
    BadGraph("moved-codes", _moved_codes),
    BadGraph("quantized-vector", _int8_bias),
    BadGraph("float-storage", _float_storage),
    BadGraph("transposed-weight", _transposed_weight),
    BadGraph("scaled-table", _scaled_table),
    BadGraph("turing-float", _nothing, {"sm": 75}),
    BadGraph("float-layer", _float_layer),
    BadGraph("float-input", _float_input),
    BadGraph("float-weight", _float_weight),
    BadGraph("narrow-layer", _narrow_layer),
    BadGraph("untied-inputs", lambda model: _own_quantizer(model, 1.01)),
    BadGraph("duplicate-quantizers", lambda model: _own_quantizer(model, 1.0)),
    BadGraph("quantized-gelu-input", _quantized_gelu_input),
    BadGraph("partial-attention", lambda model: drop_pair(model, _SOFTMAX)),
    BadGraph("float-attention", _float_attention),
    BadGraph("quantized-scores", _quantized_scores),
    BadGraph("softmax-scale", _pair(_SOFTMAX, 1, np.array(1 / 255, np.float32))),
    BadGraph("sdpa-guard", _guard),
    BadGraph("sparsity-stamp", _broken_stamp),
    BadGraph("sparsity-along-outputs", _sparse_along_outputs),
    BadGraph("missing-int8-output", lambda model: drop_pair(model, _OUTPUT)),
    BadGraph("float-residual", _float_residual),
    BadGraph("small-sparse-layer", _small_layers),
    BadGraph("position-limit", _nothing, {"sequence": 65}),
    BadGraph("attention-length", _long_tables, {"sequence": 600}),
)
