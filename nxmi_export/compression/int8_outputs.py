"""An encoder and a placement in, when INT8 comes out of each quantized linear out.

Sparse INT8 kernels read and write INT8, so that a 2:4 linear is no faster than a dense one where
its output is rounded to nothing. Whether it is depends on other linears: quantizers sit where
quantized linears read, and a block's attention is quantized as a whole or not at all. A GELU or
MobileBERT's NoNorm between a linear and its quantizer joins the linear's kernel, as its bias does.
"""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.encoder_block import EncoderBlock
from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.recipe import Component, Placement

__all__ = ["Needs", "int8_output_needs"]

Needs = tuple[frozenset[str], ...]
"""Of each set, at least one linear must be quantized; empty where nothing else is needed."""

_QKV = (Component.QUERY, Component.KEY, Component.VALUE)


def int8_output_needs(model: PreTrainedModel, placement: Placement) -> dict[str, Needs | None]:
    """What else must be quantized so that a quantized linear's output is INT8, by module name.

    None where it never is. Restates what `insert_quantizers` does, for all recipes at once. Raises
    UnsupportedModel for an unknown architecture.
    """
    needs: dict[str, Needs | None] = {}
    for block in layout_of(model):
        needs |= dict.fromkeys(block.linears)
        if placement is Placement.WEIGHTS:
            continue
        needs |= _before_a_gelu(model, block)
        if placement is Placement.LINEAR:
            continue
        if not block.rotary:  # else the rotation makes floats of what the linear put out
            qkv = block.linears_of(*_QKV)
            needs |= {
                name: tuple(frozenset({each}) for each in qkv if each != name) for name in qkv
            }
        if placement is Placement.SPARSE:
            needs |= _before_a_norm(block)
            needs |= dict.fromkeys(block.outputs, ())
    return needs


def _before_a_gelu(model: nn.Module, block: EncoderBlock) -> Iterator[tuple[str, Needs]]:
    """An FFN's first linear, whose activation is read by its second one alone."""
    pairs = zip(
        block.linears_of(Component.FFN_UP), block.linears_of(Component.FFN_DOWN), strict=True
    )
    for up, down in pairs:
        # A gate multiplies two halves of the output before anything rounds it.
        if model.get_submodule(up).out_features == model.get_submodule(down).in_features:
            yield up, (frozenset({down}),)


def _before_a_norm(block: EncoderBlock) -> Iterator[tuple[str, Needs]]:
    """A bottleneck, whose NoNorm makes a value that is quantized as soon as one reader is."""
    for value in block.values:
        for maker in value.makers:
            linear = f"{maker.removesuffix('.LayerNorm')}.dense"
            if linear in block.linears and not block.linears[linear]:
                readers = {*value.readers, *filter(None, [value.added_to])}
                yield linear, (frozenset(readers),)
