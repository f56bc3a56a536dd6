"""A transformers encoder and a recipe in, the same encoder with fake quantizers in place out.

Quantizers sit on values, one per value, so that readers of one value share one scale:

    linear      q = linear(Q(x)); the query, key and value linears share the quantizer of x
    attention   + the outputs of query, key and value linears, and the softmax output
    sparse      + LayerNorm outputs (read by the linears and by the residual addition alike) and the
                  outputs of both dense layers, so that INT8 goes in and comes out of every GEMM

A block whose query, key and value are not all quantized keeps a float attention: TensorRT fuses
INT8 attention as a whole or not at all.
"""

import fnmatch

from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.attention import ATTENTION, SOFTMAX_SCALE
from nxmi_export.compression.encoder_layout import Layer, layout_of
from nxmi_export.compression.layers import CompressedLinear, QuantizedLayerNorm
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.errors import RecipeError, UnsupportedWeight
from nxmi_export.recipe import Component, Placement, Recipe, Scheme

__all__ = ["compressed_linears", "insert_quantizers"]

_QKV = (Component.QUERY, Component.KEY, Component.VALUE)


def insert_quantizers(model: PreTrainedModel, recipe: Recipe) -> None:
    """Edit `model` in place; its scales are NaN until calibrated or loaded.

    Raises UnsupportedModel for an unknown architecture, UnsupportedWeight where a pattern does not
    divide a weight's width, and RecipeError for an override that matches nothing.
    """
    layers = tuple(layout_of(model, model.config.model_type))
    _check_overrides(layers, recipe)
    for layer in layers:
        _check_widths(model, layer, recipe)  # all of them, before the first edit
    for layer in layers:
        _insert_into(model, layer, recipe)
    model.set_attn_implementation(ATTENTION)


def compressed_linears(model: nn.Module) -> dict[str, CompressedLinear]:
    """The compressed linears of `model` by module name, in order of execution."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, CompressedLinear)
    }


def _insert_into(model: nn.Module, layer: Layer, recipe: Recipe) -> None:
    linears: dict[Component, CompressedLinear] = {}
    for component, name in layer.components.items():
        scheme = recipe.scheme_of(component, name)
        if scheme != Scheme():
            linears[component] = _compress(model, name, scheme)
    quantized = {part: linear for part, linear in linears.items() if linear.weight_quantizer}
    _quantize_inputs(model, layer, quantized, recipe.placement)
    if recipe.placement is not Placement.LINEAR and all(part in quantized for part in _QKV):
        for part in _QKV:
            quantized[part].output_quantizer = ActivationQuantizer()
        attention = model.get_submodule(layer.attention)
        attention.softmax_quantizer = ActivationQuantizer(SOFTMAX_SCALE)
    if recipe.placement is Placement.SPARSE:
        for part in (Component.ATTENTION_OUTPUT, Component.FFN_DOWN):
            if part in quantized:
                quantized[part].output_quantizer = ActivationQuantizer()


def _quantize_inputs(
    model: nn.Module,
    layer: Layer,
    quantized: dict[Component, CompressedLinear],
    placement: Placement,
) -> None:
    for norm, readers in (
        (layer.input_norm, _QKV),
        (layer.attention_norm, (Component.FFN_UP,)),
    ):
        present = [quantized[part] for part in readers if part in quantized]
        if not present:
            continue
        quantizer = ActivationQuantizer()
        if placement is Placement.SPARSE:
            module = model.get_submodule(norm)
            assert isinstance(module, nn.LayerNorm)
            model.set_submodule(norm, QuantizedLayerNorm.of(module, quantizer))
        else:
            for linear in present:
                linear.input_quantizer = quantizer
    for part in (Component.ATTENTION_OUTPUT, Component.FFN_DOWN):
        if part in quantized:
            quantized[part].input_quantizer = ActivationQuantizer()


def _compress(model: nn.Module, name: str, scheme: Scheme) -> CompressedLinear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    compressed = CompressedLinear(linear, scheme)
    compressed.train(linear.training)
    model.set_submodule(name, compressed)
    return compressed


def _check_widths(model: nn.Module, layer: Layer, recipe: Recipe) -> None:
    for component, name in layer.components.items():
        pattern = recipe.scheme_of(component, name).pattern
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        if pattern is not None and linear.in_features % pattern.group:
            raise UnsupportedWeight(
                name,
                expected=f"an input width that is a multiple of {pattern.group} for {pattern}",
                found=f"width {linear.in_features}",
                remedy="give the layer another scheme under overrides in the recipe",
            )


def _check_overrides(layers: tuple[Layer, ...], recipe: Recipe) -> None:
    names = [name for layer in layers for name in layer.components.values()]
    for pattern in recipe.overrides:
        if not fnmatch.filter(names, pattern):
            raise RecipeError(
                f"override {pattern!r}",
                expected="a pattern that matches a linear layer of the encoder",
                found="no match",
                remedy=f"module names look like {names[0]!r}",
            )
