"""N:M projection and masks in torch; the numbers are those of `passes.numerics`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.recipe import Pattern

__all__ = ["magnitude_masks", "pattern_mask", "project"]


def pattern_mask(weight: Tensor, pattern: Pattern) -> Tensor:
    """True where magnitude projection keeps a weight, shape (out, in) as `weight`.

    In every group of `pattern.group` consecutive weights of a row the `pattern.keep` largest
    magnitudes stay; ties go to the lowest index, so the result is the same on every machine.
    """
    groups = weight.detach().abs().reshape(weight.shape[0], -1, pattern.group)
    order = torch.argsort(groups, dim=-1, descending=True, stable=True)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    mask.scatter_(-1, order[..., : pattern.keep], True)
    return mask.reshape(weight.shape)


def magnitude_masks(linears: Mapping[str, CompressedLinear]) -> dict[str, Tensor]:
    """The one-shot masks of every linear that has a pattern, by module name."""
    return {
        name: pattern_mask(linear.weight, linear.scheme.pattern)
        for name, linear in linears.items()
        if linear.scheme.pattern is not None
    }


@torch.no_grad()
def project(linears: Mapping[str, CompressedLinear]) -> None:
    """Prune every linear that has a pattern, in place, by magnitude.

    Comes before calibration: the values that scales are fitted to are those of the pruned model.
    """
    for name, mask in magnitude_masks(linears).items():
        linears[name].weight.mul_(mask)
