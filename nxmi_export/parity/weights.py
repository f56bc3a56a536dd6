"""A PyTorch model and its ONNX file in, whether the file stores exactly what was trained out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from torch import nn

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.compression.tables import quantized_tables
from nxmi_export.parity.graph_quantizers import (
    GraphQuantizer,
    Pairing,
    module_names,
    open_graph,
    pair_quantizers,
)
from nxmi_export.parity.layer_weights import Mismatch, array_mismatches, layer_mismatches
from nxmi_export.parity.stored_parameters import stored_parameters
from nxmi_export.parity.table_weights import table_mismatches
from passes.errors import InvariantViolated
from passes.float16_invariants import (
    float16_masks_hide,
    float16_values_fit,
    islands_are_float32,
    values_are_typed,
)
from passes.linear_layers import LinearLayer, linear_layers
from passes.quantizer_invariants import UNSIGNED_ZERO_POINT, every_quantize_has_its_dequantize

__all__ = ["Mismatch", "WeightParity", "weight_parity"]

_MOST = 2 / 3  # of all; small tensors lie in the graph itself, and so may be the right ones


@dataclass(frozen=True)
class WeightParity:
    """What was compared, and everything that differs; counts are of PyTorch modules."""

    linears: int
    compressed: int  # of the linears: those with a scheme
    patterned: int  # of the compressed: those with a sparsity pattern
    quantizers: int  # of activations
    mismatches: tuple[Mismatch, ...]
    parameters: int = 0  # floats outside the linears: embedding tables, norms' weights and biases
    tables: int = 0  # of embeddings, stored as INT8
    compared: frozenset[str] = frozenset()  # of the linears: those that both sides have, by name

    @property
    def equal(self) -> bool:
        """Whether something was compared and nothing differs."""
        return self.linears > 0 and not self.mismatches

    @property
    def foreign(self) -> str | None:
        """Why this looks like the file of another checkpoint; None where it does not.

        A fault of one place reaches one layer. Where most linears hold other weights, or most
        quantizers other scales, whatever made the file was given other numbers.
        """
        weights = {each.module for each in self.mismatches if each.what in ("code", "weight")}
        scales = {
            each.module
            for each in self.mismatches
            if each.what == "scale" and each.module.endswith("_quantizer")
        }
        for what, differing, total in (
            ("linears", weights, self.linears),
            ("activation scales", scales, self.quantizers),
        ):
            if len(differing) > max(1, _MOST * total):
                return (
                    f"{len(differing)} of its {total} {what} differ, as in a file of another "
                    "checkpoint"
                )
        return None


def weight_parity(model: nn.Module, onnx_path: Path, *, float16: bool = False) -> WeightParity:
    """Compare every stored number bit for bit: of linears, quantizers, embeddings and norms.

    All are found by module name. What either side lacks is a mismatch, also where the PyTorch model
    holds a module that it never runs. With `float16`, floats may be stored as PyTorch's rounded to
    float16; integers and scales may not. Raises ArtefactError for a file that cannot be read.
    """
    onnx_model = open_graph(onnx_path)
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    layers = _layers_by_module(model, onnx_model.graph)
    compressed = [m for m in linears.values() if isinstance(m, CompressedLinear)]
    pairing = pair_quantizers(model, onnx_model.graph)
    others = stored_parameters(model, onnx_model.graph, float16=float16)
    mismatches = (
        *_linear_mismatches(linears, layers, float16),
        *_quantizer_mismatches(model, pairing),
        *table_mismatches(model, onnx_model.graph),
        *others.mismatches,
        *_broken_pairs(onnx_model),
        *(_beyond_float16(onnx_model) if float16 else ()),
    )
    return WeightParity(
        linears=len(linears),
        compressed=len(compressed),
        patterned=sum(linear.scheme.pattern is not None for linear in compressed),
        quantizers=len(pairing.pairs) + len(pairing.missing),
        mismatches=mismatches,
        parameters=others.compared,
        tables=len(quantized_tables(model)),
        compared=frozenset(linears.keys() & layers.keys()),
    )


def _layers_by_module(model: nn.Module, graph: ir.Graph) -> dict[str, list[LinearLayer]]:
    names = module_names(model)
    found: dict[str, list[LinearLayer]] = {}
    for layer in linear_layers(graph):
        name = names.get(layer.module, layer.module)
        found.setdefault(name, []).append(layer)
    return found


def _linear_mismatches(
    linears: Mapping[str, nn.Linear], found: Mapping[str, list[LinearLayer]], float16: bool
) -> Iterator[Mismatch]:
    for name, linear in linears.items():
        for layer in found.get(name, ()):
            yield from layer_mismatches(name, linear, layer, float16=float16)
        if name not in found:
            yield Mismatch(name, "layer", "a linear layer", "missing from the graph")
    for name, layers in found.items():
        if name not in linears:
            where = name or str(layers[0].node.name)
            yield Mismatch(where, "layer", "none in the PyTorch model", "a linear layer")


def _quantizer_mismatches(model: nn.Module, pairing: Pairing) -> Iterator[Mismatch]:
    for name, nodes in pairing.pairs.items():
        module = model.get_submodule(name)
        assert isinstance(module, ActivationQuantizer)
        for node in nodes:
            yield from _parameter_mismatches(name, module, node)
    for name in pairing.missing:
        yield Mismatch(name, "quantizer", "a QuantizeLinear", "missing from the graph")
    for name in pairing.extra:
        yield Mismatch(name, "quantizer", "none in the PyTorch model", "a QuantizeLinear")


def _parameter_mismatches(
    name: str, module: ActivationQuantizer, node: GraphQuantizer
) -> Iterator[Mismatch]:
    scale, point = node.parameters.scale, node.parameters.zero_point
    if scale is None or point is None:
        yield Mismatch(name, "quantizer", "constants", "parameters that the graph computes")
        return
    yield from array_mismatches(name, "scale", module.scale.detach().cpu().numpy(), scale)
    codes = node.parameters.codes
    # int8 around 0 and uint8 around 128 are the same codes; x86 CPUs multiply the latter.
    centre = UNSIGNED_ZERO_POINT if codes == ir.DataType.UINT8 else 0
    if codes not in {ir.DataType.INT8, ir.DataType.UINT8} or (point != centre).any():
        found = ", ".join(map(str, point.reshape(-1)[:4]))
        yield Mismatch(
            name,
            "zero-point",
            f"int8 0 or uint8 {UNSIGNED_ZERO_POINT}",
            f"{codes.name.lower()} {found}",
        )


def _beyond_float16(onnx_model: ir.Model) -> Iterator[Mismatch]:
    """What the lowering proves of a float16 file, proved again from the file's own numbers.

    Running it shows nothing: onnxruntime's CPU kernels compute in float32, where nothing overflows.
    """
    for promise in (values_are_typed, islands_are_float32, float16_values_fit, float16_masks_hide):
        try:
            promise.check(onnx_model)
        except InvariantViolated as error:
            yield Mismatch(error.subject, "float16", error.expected, error.found)


def _broken_pairs(onnx_model: ir.Model) -> Iterator[Mismatch]:
    """What a QuantizeLinear rounds, a DequantizeLinear must give back by the same parameters."""
    try:
        every_quantize_has_its_dequantize.check(onnx_model)
    except InvariantViolated as error:
        yield Mismatch(error.subject, "pair", error.expected, error.found)
