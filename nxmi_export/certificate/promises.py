"""The structure of a compressed model in, what its recipe promises of every encoder GEMM out."""

from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.encoder_block import EncoderBlock
from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.int8_outputs import int8_output_needs
from nxmi_export.recipe import Component, Placement, Scheme

__all__ = ["AttentionPromise", "LinearPromise", "Promises", "promises_of"]

_QKV = (Component.QUERY, Component.KEY, Component.VALUE)


@dataclass(frozen=True)
class LinearPromise:
    """What one linear is to be."""

    module: str
    block: str  # the encoder block it belongs to, which its name begins with
    scheme: Scheme
    inputs: int  # K
    outputs: int  # N
    int8_output: bool  # whatever reads it reads INT8, in the placement that promises it
    weight_alone: bool = False  # the placement leaves what it reads in float

    @property
    def is_quantized(self) -> bool:
        """Whether codes are to be stored."""
        return self.scheme.bits is not None

    @property
    def multiplies_int8(self) -> bool:
        """Whether they are to be multiplied as well."""
        return self.is_quantized and not self.weight_alone

    @property
    def is_two_of_four(self) -> bool:
        """Whether its pattern implies 2:4, the only one that sparse tensor cores have."""
        pattern = self.scheme.pattern
        if pattern is None:
            return False
        return pattern.keep <= 2 and (
            pattern.group % 4 == 0 or (pattern.keep, pattern.group) == (1, 2)
        )


@dataclass(frozen=True)
class AttentionPromise:
    """What the two products of one attention are to be."""

    module: str
    block: str
    quantized: bool


@dataclass(frozen=True)
class Promises:
    """Of every encoder block, in order."""

    linears: tuple[LinearPromise, ...]
    attentions: tuple[AttentionPromise, ...]
    merged: tuple[tuple[str, ...], ...]  # quantized query, key and value that read one value


def promises_of(model: PreTrainedModel, placement: Placement | None) -> Promises:
    """Read a model that has its quantizers; weights are not looked at and may be on "meta".

    `placement` is None for a model that was never compressed. Raises UnsupportedModel for an
    unknown architecture.
    """
    blocks = tuple(layout_of(model))
    schemes = {name: linear.scheme for name, linear in compressed_linears(model).items()}
    quantized = {name for name, scheme in schemes.items() if scheme.bits is not None}
    outputs = _int8_outputs(model, placement, quantized)
    alone = placement is Placement.WEIGHTS
    linears = [
        replace(
            _linear(model, name, block, schemes.get(name, Scheme()), int8_output=name in outputs),
            weight_alone=alone and name in quantized,
        )
        for block in blocks
        for name in block.linears
    ]
    attentions = [
        AttentionPromise(block.attention, _name_of(block), _has_softmax_quantizer(model, block))
        for block in blocks
    ]
    multiplied = set() if alone else quantized
    merged = [group for block in blocks for group in _merged(block, multiplied)]
    return Promises(tuple(linears), tuple(attentions), tuple(merged))


def _linear(
    model: PreTrainedModel, name: str, block: EncoderBlock, scheme: Scheme, *, int8_output: bool
) -> LinearPromise:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    shape = linear.in_features, linear.out_features
    return LinearPromise(name, _name_of(block), scheme, *shape, int8_output)


def _int8_outputs(
    model: PreTrainedModel, placement: Placement | None, quantized: set[str]
) -> set[str]:
    if placement is not Placement.SPARSE:
        return set()
    needs = int8_output_needs(model, placement)
    return {
        name
        for name, sets in needs.items()
        if name in quantized and sets is not None and all(each & quantized for each in sets)
    }


def _has_softmax_quantizer(model: PreTrainedModel, block: EncoderBlock) -> bool:
    attention = model.get_submodule(block.attention)
    return getattr(attention, "softmax_quantizer", None) is not None


def _merged(block: EncoderBlock, quantized: set[str]) -> list[tuple[str, ...]]:
    qkv = set(block.linears_of(*_QKV)) & quantized
    groups = [tuple(name for name in value.readers if name in qkv) for value in block.values]
    return [group for group in groups if len(group) > 1]


def _name_of(block: EncoderBlock) -> str:
    """The longest name that all of its modules begin with."""
    names = [name.split(".") for name in (block.attention, *block.linears)]
    shared = []
    for parts in zip(*names, strict=False):  # until the shortest ends
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)
