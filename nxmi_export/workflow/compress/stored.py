"""Encoder linears in, what of each is stored and how much smaller that is than float32 out.

Sizes are those of the encoder linears' weights alone; scales, biases, LayerNorms and embeddings are
not counted. `nominal` counts the kept values, `with metadata` also the index of every kept value
inside its group: 2 bits for 2:4, as sparse tensor cores read them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression import CompressedLinear, compressed_linears
from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.compression.sparsity import pattern_mask
from nxmi_export.recipe import Pattern, Scheme
from nxmi_export.recipe.scheme import DENSE_BITS, SPARSE_FLOAT_BITS

__all__ = [
    "Compression",
    "StoredLayer",
    "compression_of",
    "magnitude_masks_of",
    "moved_of",
    "stored_layers",
]

_WIDTHS = {4: 7, 8: 127}  # bits to the largest code


@dataclass(frozen=True)
class StoredLayer:
    """One linear as its weight is, whatever the recipe asked for."""

    pattern: str | None  # of the recipe, where every group keeps to it
    bits: int  # of each kept value
    inputs: int
    outputs: int
    zeros: float  # share of the stored values, 0…1
    # share of the mask's entries that magnitude projection of the dense weight sets otherwise
    mask_moved: float | None  # None without a pattern, and without a mask to compare with

    @property
    def weights(self) -> int:
        """How many the dense linear has."""
        return self.inputs * self.outputs

    @property
    def nominal_bits(self) -> float:
        """Per weight of the dense linear, without metadata."""
        return self._scheme.nominal_bits

    @property
    def bits_with_metadata(self) -> float:
        """Per weight of the dense linear, with the index of every kept value in its group."""
        return self._scheme.bits_with_metadata

    @property
    def _scheme(self) -> Scheme:
        names = [self.pattern] if self.pattern else []
        names += [f"int{self.bits}"] if self.bits in _WIDTHS else []
        return Scheme.parse("+".join(names) or "dense")

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Compression:
    """Shares of the float32 size of all encoder linears that are saved, 0…1."""

    nominal: float
    with_metadata: float


def magnitude_masks_of(blank: PreTrainedModel, dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks that magnitude projection gives the state `dense`, by module name.

    `blank` has the recipe's patterns; its weights are not read.
    """
    return {
        name: pattern_mask(dense[f"{name}.weight"].detach().float(), linear.scheme.pattern)
        for name, linear in compressed_linears(blank).items()
        if linear.scheme.pattern is not None
    }


def stored_layers(
    model: PreTrainedModel, magnitude: Mapping[str, Tensor] | None = None
) -> dict[str, StoredLayer]:
    """Every encoder linear that a recipe can name, by module name; layers that share count once.

    `magnitude` are the masks of the model that was compressed, by `magnitude_masks_of`.
    """
    names = dict.fromkeys(name for block in layout_of(model) for name in block.linears)
    return {
        name: _measured(model.get_submodule(name), (magnitude or {}).get(name)) for name in names
    }


def moved_of(layers: Iterable[StoredLayer]) -> float | None:
    """The share of all these masks' entries that moved; None where none is known of any."""
    known = [(each.mask_moved, each.weights) for each in layers if each.mask_moved is not None]
    total = sum(weights for _, weights in known)
    return sum(moved * weights for moved, weights in known) / total if total else None


def compression_of(layers: Iterable[StoredLayer]) -> Compression:
    """What all of these save together."""
    layers = list(layers)
    dense = DENSE_BITS * sum(layer.weights for layer in layers)
    nominal = sum(layer.nominal_bits * layer.weights for layer in layers)
    whole = sum(layer.bits_with_metadata * layer.weights for layer in layers)
    return Compression(nominal=1 - nominal / dense, with_metadata=1 - whole / dense)


def _measured(linear: nn.Module, magnitude: Tensor | None) -> StoredLayer:
    assert isinstance(linear, nn.Linear)
    stored, pattern, bits, moved = linear.weight.detach(), None, DENSE_BITS, None
    if isinstance(linear, CompressedLinear):
        if linear.weight_quantizer is not None:
            stored = linear.codes()
        if _keeps_to(stored, linear.scheme.pattern):
            pattern, bits = str(linear.scheme.pattern), SPARSE_FLOAT_BITS
            moved = _moved(linear, magnitude)
        if linear.weight_quantizer is not None:
            largest = int(stored.to(torch.int32).abs().max())
            bits = next(width for width, limit in _WIDTHS.items() if largest <= limit)
    return StoredLayer(
        pattern=pattern,
        bits=bits,
        inputs=linear.in_features,
        outputs=linear.out_features,
        zeros=float((stored == 0).double().mean()),
        mask_moved=moved,
    )


def _moved(linear: CompressedLinear, magnitude: Tensor | None) -> float | None:
    pattern, weight = linear.scheme.pattern, linear.weight.detach()
    if pattern is None or magnitude is None:
        return None
    return float((pattern_mask(weight, pattern) != magnitude.to(weight.device)).double().mean())


def _keeps_to(stored: Tensor, pattern: Pattern | None) -> bool:
    if pattern is None:
        return False
    counts = (stored != 0).reshape(len(stored), -1, pattern.group).sum(-1)
    return bool((counts <= pattern.keep).all())
