"""Linear layers: what keeps them from running in INT8, or from being merged."""

from collections.abc import Iterator

import onnx_ir as ir

from passes.constants import readers
from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import FEWEST_CHANNELS, Reading, is_int8
from passes.lint.walk import descendants, producer, quantize_behind
from passes.quantizers import Quantizer, is_quantize

__all__ = [
    "duplicate_quantizers",
    "float_input",
    "float_layer",
    "float_weight",
    "narrow_layer",
    "quantized_gelu_input",
    "quantized_norm_input",
    "quantized_product",
    "turing_float",
    "untied_inputs",
]


_FIRST_WITH_FLOAT_OUTPUT = 80


@rule("float-layer", Severity.DEGRADE, remedy="quantize the layer, or name it in the recipe")
def float_layer(reading: Reading) -> Iterator[Place]:
    """In a strongly typed network what is not between Q and DQ runs in the type of the graph."""
    if not reading.is_quantized:
        return
    for layer in reading.token_layers:
        if layer.input_quantizer is None and layer.weight.dequantize is None:
            yield layer.node, "a float layer in a quantized encoder"


@rule("float-input", Severity.DEGRADE, remedy="quantize the input of the layer as well")
def float_input(reading: Reading) -> Iterator[Place]:
    """With a quantized weight alone the product runs in float: smaller, not faster."""
    for layer in reading.token_layers:
        if layer.weight.dequantize is not None and quantize_behind(layer.data) is None:
            yield layer.node, "a quantized weight and a float input"


@rule("float-weight", Severity.DEGRADE, remedy="quantize the weight of the layer as well")
def float_weight(reading: Reading) -> Iterator[Place]:
    """With a quantized input alone the product runs in float, after needless rounding."""
    for layer in reading.token_layers:
        if layer.weight.dequantize is None and quantize_behind(layer.data) is not None:
            yield layer.node, "a quantized input and a float weight"


@rule("narrow-layer", Severity.DEGRADE, remedy="leave the layer in float")
def narrow_layer(reading: Reading) -> Iterator[Place]:
    """With K or N below 16 an INT8 product wins nothing and needs kernels that quantize and rescale
    beside it.
    """
    for layer in reading.layers:
        inputs, outputs = layer.weight.shape
        if is_int8(layer) and min(inputs, outputs) < FEWEST_CHANNELS:
            yield layer.node, f"a quantized layer with {inputs} inputs and {outputs} outputs"


@rule("untied-inputs", Severity.DEGRADE, remedy="give query, key and value one input scale")
def untied_inputs(reading: Reading) -> Iterator[Place]:
    """Layers that read one value are merged into one product only if their input scales are equal;
    a difference of 1 % makes three products and the copies between them.
    """
    for quantizers in _quantizers_by_source(reading).values():
        first = quantizers[0]
        different = [each for each in quantizers if not each.inverts(first)]
        if different:
            names = ", ".join(str(each.node.name) for each in different)
            yield first.node, f"the same value quantized otherwise by {names}"


@rule("duplicate-quantizers", Severity.NOTE, remedy="--fix lets the readers share one, exactly")
def duplicate_quantizers(reading: Reading) -> Iterator[Place]:
    """Equal quantizers of one value are merged; sharing one does not depend on it."""
    for quantizers in _quantizers_by_source(reading).values():
        for index, each in enumerate(quantizers):
            twin = next((one for one in quantizers[:index] if one.inverts(each)), None)
            if twin is not None:
                yield each.node, f"the same as {twin.node.name}"


@rule("quantized-product", Severity.NOTE, remedy="quantize the output after the bias")
def quantized_product(reading: Reading) -> Iterator[Place]:
    """INT8 kernels add the bias before they round; a quantizer between the two rounds once more and
    costs accuracy.
    """
    for layer in reading.layers:
        if is_int8(layer) and layer.add is None:
            for node in readers(layer.node.outputs[0]):
                if is_quantize(node) and (biased := _adds_constant(reading, node)):
                    yield node, f"a quantizer between the product and the bias of {biased.name}"


@rule("quantized-norm-input", Severity.NOTE, remedy="quantize what is added, not the sum")
def quantized_norm_input(reading: Reading) -> Iterator[Place]:
    """A sum that is rounded in front of its LayerNormalization costs accuracy and gains nothing:
    the kernel that adds also normalizes.
    """
    for node in reading.nodes:
        if node.op_type == "LayerNormalization" and not node.domain:
            quantize = quantize_behind(node.inputs[0])
            made = None if quantize is None else producer(quantize.inputs[0])
            if quantize is not None and made is not None and made.op_type == "Add":
                yield quantize, f"a quantizer in front of {node.name}"


@rule("quantized-gelu-input", Severity.NOTE, remedy="quantize the output of GELU, not its input")
def quantized_gelu_input(reading: Reading) -> Iterator[Place]:
    """Rounding in front of GELU as well as behind it costs accuracy and gains nothing: the INT8
    kernels that end in a GELU quantize its output.
    """
    for each in reading.activations:
        made = producer(each.node.inputs[0])
        if made is None or made.op_type not in {"Add", "Gemm", "MatMul"}:
            continue
        ahead = descendants(each.node.outputs[0], {"DequantizeLinear", "Div", "Mul"})
        gelu = next((node for node in ahead if node.op_type in {"Erf", "Gelu"}), None)
        if gelu is not None:
            yield each.node, f"a quantizer in front of {gelu.op_type}"


@rule("turing-float", Severity.REFUSE, remedy="build for SM80 or later")
def turing_float(reading: Reading) -> Iterator[Place]:
    """On SM75 an INT8 product between FP32 values does not build."""
    if reading.sm >= _FIRST_WITH_FLOAT_OUTPUT:
        return
    for layer in reading.layers:
        if is_int8(layer):
            yield layer.node, f"an INT8 product in FP32 surroundings for SM{reading.sm}"


def _adds_constant(reading: Reading, quantize: ir.Node) -> ir.Node | None:
    """The Add of a constant that reads what `quantize` rounds, if one does."""
    for node in descendants(quantize.outputs[0], {"DequantizeLinear"}):
        if node.op_type == "Add" and any(map(reading.is_constant, node.inputs)):
            return node
    return None


def _quantizers_by_source(reading: Reading) -> dict[object, list[Quantizer]]:
    """The input quantizers of linear layers, by the value that they quantize."""
    quantizers = {each.node: each for each in reading.activations}
    found: dict[object, list[Quantizer]] = {}
    for node in dict.fromkeys(quantize_behind(layer.data) for layer in reading.layers):
        if node in quantizers:
            found.setdefault(node.inputs[0], []).append(quantizers[node])
    return found
