"""A transformers encoder and a recipe in, the same encoder with fake quantizers in place out.

Quantizers sit on values, one per value, so that readers of one value share one scale:

    weights     none: the weights alone are rounded, and every product runs on floats
    linear      q = linear(Q(x)); linears that read one x (query, key and value) share the quantizer
    attention   + query, key, value and the softmax output, as the attention matmuls read them
    sparse      + the outputs of linears, after a GELU or NoNorm, and the norm outputs that linears
                  and residual additions read, so that INT8 goes in and comes out of every GEMM

A block whose query, key and value are not all quantized keeps a float attention: TensorRT fuses
INT8 attention as a whole or not at all.

A linear that serves several components (ModernBERT's Wqkv) takes one scheme, on which the recipe
must agree; one that belongs to none (MobileBERT's bottlenecks) takes the recipe's default.

Embedding tables are quantized where the recipe asks for it, whatever the placement.
"""

import fnmatch

from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.attention import ATTENTION, SOFTMAX_SCALE
from nxmi_export.compression.encoder_block import EncoderBlock, Value
from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.quantized_output import with_quantized_output
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.compression.tables import quantize_tables
from nxmi_export.errors import RecipeError, UnsupportedWeight
from nxmi_export.recipe import Component, Pattern, Placement, Recipe, Scheme

__all__ = ["compressed_linears", "insert_quantizers"]

_QKV = (Component.QUERY, Component.KEY, Component.VALUE)


def insert_quantizers(model: PreTrainedModel, recipe: Recipe) -> None:
    """Edit `model` in place; its scales are NaN until calibrated or loaded.

    Raises UnsupportedModel for an unknown architecture, UnsupportedWeight where a pattern does not
    divide a weight's width, and RecipeError for an override that matches nothing or components of
    one linear that disagree.
    """
    blocks = tuple(layout_of(model))
    linears = {name: parts for block in blocks for name, parts in block.linears.items()}
    _check_overrides(tuple(linears), recipe)
    schemes = {name: _scheme_of(recipe, name, parts) for name, parts in linears.items()}
    for name, scheme in schemes.items():
        _check_width(model, name, scheme.pattern)  # all of them, before the first edit
    compressed = {
        name: _compress(model, name, scheme, recipe)
        for name, scheme in schemes.items()
        if scheme != Scheme()
    }
    quantized = {name: linear for name, linear in compressed.items() if linear.weight_quantizer}
    if recipe.placement is not Placement.WEIGHTS:
        for block in blocks:
            _insert_into(model, block, quantized, recipe)
    if recipe.embeddings == "int8":
        quantize_tables(model, recipe.weights)
    model.set_attn_implementation(ATTENTION)


def compressed_linears(model: nn.Module) -> dict[str, CompressedLinear]:
    """The compressed linears of `model` by module name, an encoder's in order of execution."""
    listed = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, CompressedLinear)
    }
    if not listed or not isinstance(model, PreTrainedModel):
        return listed
    executed = (name for block in layout_of(model) for name in block.linears)
    return {name: listed[name] for name in executed if name in listed}


def _insert_into(
    model: nn.Module, block: EncoderBlock, quantized: dict[str, CompressedLinear], recipe: Recipe
) -> None:
    for value in block.values:
        _quantize_value(model, value, quantized, recipe)
    if recipe.placement is Placement.LINEAR:
        return
    inputs = block.linears_of(*_QKV)
    if all(name in quantized for name in inputs):
        attention = model.get_submodule(block.attention)
        if block.rotary:
            for part in _QKV:
                attention.add_module(f"{part}_quantizer", _activation_quantizer(recipe))
        else:
            for name in inputs:
                quantized[name].output_quantizer = _activation_quantizer(recipe)
        attention.softmax_quantizer = ActivationQuantizer(
            SOFTMAX_SCALE, settings=recipe.activations
        )
    if recipe.placement is Placement.SPARSE:
        for name in block.outputs:
            if name in quantized:
                quantized[name].output_quantizer = _activation_quantizer(recipe)


def _quantize_value(
    model: nn.Module, value: Value, quantized: dict[str, CompressedLinear], recipe: Recipe
) -> None:
    """Where `value` is made in `sparse`, if something else reads it too; else where it is read."""
    readers = [quantized[name] for name in value.readers if name in quantized]
    if recipe.placement is Placement.SPARSE and value.makers:
        if readers or value.added_to in quantized:
            for name in value.makers:
                _quantize_output(model, name, recipe)
    elif readers:
        quantizer = _activation_quantizer(recipe)
        for linear in readers:
            linear.input_quantizer = quantizer


def _quantize_output(model: nn.Module, name: str, recipe: Recipe) -> None:
    module = model.get_submodule(name)
    if hasattr(module, "output_quantizer"):
        return  # of a shared block: it makes the input of the next one and of its own repetition
    quantized = with_quantized_output(module, _activation_quantizer(recipe))
    quantized.train(module.training)
    model.set_submodule(name, quantized)


def _activation_quantizer(recipe: Recipe) -> ActivationQuantizer:
    return ActivationQuantizer(settings=recipe.activations)


def _compress(model: nn.Module, name: str, scheme: Scheme, recipe: Recipe) -> CompressedLinear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    compressed = CompressedLinear(linear, scheme, recipe.weights)
    compressed.train(linear.training)
    model.set_submodule(name, compressed)
    return compressed


def _scheme_of(recipe: Recipe, name: str, components: tuple[Component, ...]) -> Scheme:
    if not components:
        # No component's scheme speaks for it, so the default does, unless its name is overridden.
        unspecific = recipe.model_copy(update={"schemes": {}})
        return unspecific.scheme_of(Component.FFN_UP, name)
    schemes = {part: recipe.scheme_of(part, name) for part in components}
    if len(set(schemes.values())) > 1:
        parts = _listed(components)
        raise RecipeError(
            name,
            expected=f"one scheme for {parts}, which are one linear in this encoder",
            found=_listed(tuple(f"{scheme} for {part}" for part, scheme in schemes.items())),
            remedy=f"give {parts} the same scheme",
        )
    return schemes[components[0]]


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _check_width(model: nn.Module, name: str, pattern: Pattern | None) -> None:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    if pattern is not None and linear.in_features % pattern.group:
        raise UnsupportedWeight(
            name,
            expected=f"an input width that is a multiple of {pattern.group} for {pattern}",
            found=f"width {linear.in_features}",
            remedy="give the layer another scheme under overrides in the recipe",
        )


def _check_overrides(names: tuple[str, ...], recipe: Recipe) -> None:
    for pattern in recipe.overrides:
        if not fnmatch.filter(names, pattern):
            raise RecipeError(
                f"override {pattern!r}",
                expected="a pattern that matches a linear layer of the encoder",
                found="no match",
                remedy=f"module names look like {names[0]!r}",
            )
