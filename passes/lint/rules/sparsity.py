"""2:4 sparsity: on the stored numbers, along the reduction axis, with INT8 in and out."""

from collections.abc import Iterator

import onnx_ir as ir

from passes.constants import readers
from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import PAIRS, Reading, has_pairs, is_int8
from passes.lint.walk import MOVERS, producer, quantize_behind
from passes.quantizers import is_quantize
from passes.sparsity import SPARSITY_KEY

__all__ = [
    "float_residual",
    "missing_int8_output",
    "small_sparse_layer",
    "sparsity_along_outputs",
    "sparsity_stamp",
]

_FEWEST_CHANNELS_TO_GAIN = 256
# What may stand between a linear layer and the quantizer of its output: bias, GELU, reshaping.
_AFTER_LAYER = MOVERS | {
    "Add",
    "BiasGelu",
    "Cast",
    "Div",
    "Erf",
    "FastGelu",
    "Gelu",
    "Mul",
    "Pow",
    "Relu",
    "Tanh",
}


@rule(
    "sparsity-stamp",
    Severity.DEGRADE,
    remedy="project the weight before it is exported, or remove the stamp",
)
def sparsity_stamp(reading: Reading) -> Iterator[Place]:
    """Sparse kernels take a weight only if every group of four along K has two zeros."""
    for layer in reading.layers:
        stamped = layer.node.metadata_props.get(SPARSITY_KEY) == str(PAIRS)
        if stamped and layer not in reading.sparse_layers:
            yield layer.node, f"the stamp {PAIRS} on a weight that is not {PAIRS}"


@rule("sparsity-along-outputs", Severity.DEGRADE, remedy="prune along the inputs of the layer")
def sparsity_along_outputs(reading: Reading) -> Iterator[Place]:
    """2:4 along the output channels costs accuracy and gains nothing: kernels skip along K."""
    for layer in reading.layers:
        if layer not in reading.sparse_layers and has_pairs(layer, layer.weight.output_axis):
            yield layer.node, f"{PAIRS} along the output channels instead of the inputs"


@rule(
    "missing-int8-output",
    Severity.DEGRADE,
    remedy="quantize every output after bias and GELU (placement sparse)",
)
def missing_int8_output(reading: Reading) -> Iterator[Place]:
    """Sparse INT8 kernels of Ampere and Ada write INT8 only; otherwise the dense one wins."""
    for layer in reading.sparse_layers:
        if is_int8(layer):
            reader = _float_reader(reading, layer.node.outputs[0])
            if reader:
                yield layer.node, f"a 2:4 layer whose output {reader} reads as floats"


@rule(
    "float-residual",
    Severity.DEGRADE,
    remedy="quantize both operands of a residual addition (placement sparse)",
)
def float_residual(reading: Reading) -> Iterator[Place]:
    """Beside the INT8 output of a 2:4 layer, a float residual makes the kernel write floats."""
    sums = {node for layer in reading.sparse_layers for node in (layer.node, layer.add)}
    for node in reading.nodes:
        if node.op_type != "Add" or any(map(reading.is_constant, node.inputs)):
            continue
        quantized = [each for each in map(quantize_behind, node.inputs) if each is not None]
        if len(quantized) == 1 and producer(quantized[0].inputs[0]) in sums:
            yield node, "an INT8 output added to a float residual"


@rule("small-sparse-layer", Severity.NOTE, remedy="expect no gain from 2:4 in this layer")
def small_sparse_layer(reading: Reading) -> Iterator[Place]:
    """Sparse kernels gain only for K and N of 256 and more."""
    for layer in reading.sparse_layers:
        inputs, outputs = layer.weight.shape
        if min(inputs, outputs) < _FEWEST_CHANNELS_TO_GAIN and is_int8(layer):
            yield layer.node, f"a 2:4 layer with {inputs} inputs and {outputs} outputs"


def _float_reader(reading: Reading, output: ir.Value) -> str:
    """The first reader of a layer's output, past bias and GELU, that is no quantizer; or empty."""
    derived = _derived_values(reading, output)
    for value in derived:
        if value.is_graph_output():
            return "the graph's caller"
        for node in readers(value):
            if not is_quantize(node) and node.outputs[0] not in derived:
                return f"{node.op_type} {node.name or node.outputs[0].name}"
    return ""


def _derived_values(reading: Reading, output: ir.Value) -> dict[ir.Value, None]:
    """What bias, GELU and reshaping make of `output`, itself included, nearest first.

    To a fixed point: an exported GELU multiplies the value with a function of it.
    """
    derived = {output: None}
    while True:
        known = len(derived)
        for node in [node for value in derived for node in readers(value)]:
            own = [each in derived or reading.is_constant(each) for each in node.inputs]
            # The shape of a Reshape is computed; only what is reshaped counts.
            if (node.op_type in MOVERS and own[0]) or (node.op_type in _AFTER_LAYER and all(own)):
                derived.update(dict.fromkeys(node.outputs))
        if len(derived) == known:
            return derived
