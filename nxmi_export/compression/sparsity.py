"""N:M projection and masks in torch; the numbers are those of `passes.numerics`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.recipe import Pattern

__all__ = ["apply_mask", "magnitude_masks", "pattern_mask", "project"]

# Weights compared at a time. On a CPU their ranks then stay in its cache; a device that launches
# kernels takes more at once.
_AT_ONCE = 1 << 18
_AT_ONCE_ON_A_DEVICE = 1 << 26

_SAME_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes of a float


def pattern_mask(weight: Tensor, pattern: Pattern) -> Tensor:
    """True where magnitude projection keeps a weight, shape (out, in) as `weight`, all finite.

    In every group of `pattern.group` consecutive weights of a row the `pattern.keep` largest
    magnitudes stay; ties go to the lowest index, so the result is the same on every machine.
    Never waits for the device.
    """
    groups = weight.detach().reshape(-1, pattern.group)
    mask = torch.empty_like(groups, dtype=torch.bool)
    at_once = _AT_ONCE if weight.device.type == "cpu" else _AT_ONCE_ON_A_DEVICE
    rows = at_once // pattern.group
    for start in range(0, len(groups), rows):
        kept = _ranks(groups[start : start + rows]) < pattern.keep
        torch.stack(kept.unbind(), dim=1, out=mask[start : start + rows])
    return mask.reshape(weight.shape)


def _ranks(groups: Tensor) -> Tensor:
    """How many of its group beat each weight of (groups, group); int8 of shape (group, groups).

    Every pair of a group is compared once, those of equal distance together. Comparing whole rows
    is what processors are good at, and so several times faster than sorting or selecting within
    each short group.
    """
    magnitudes = torch.stack(groups.abs().unbind(dim=1))
    size = len(magnitudes)
    # As if each weight had lost to all behind it: a victory then takes one off.
    behind = torch.arange(size - 1, -1, -1, dtype=torch.int8, device=groups.device)
    ranks = behind[:, None].repeat(1, len(groups))
    for distance in range(1, size):
        # the earlier one also wins a tie
        wins = (magnitudes[:-distance] >= magnitudes[distance:]).view(torch.int8)
        ranks[distance:] += wins
        ranks[:-distance] -= wins
    return ranks


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
        apply_mask(linears[name].weight, mask)


def apply_mask(weight: Tensor, mask: Tensor) -> None:
    """Set `weight`, of any floating type, to zero in place where `mask` is False.

    What stays keeps its bits, and what goes becomes +0.0.
    """
    # As integers: a negative float times zero is -0.0, and filling by a mask is 8 times slower.
    weight.detach().view(_SAME_WIDTH[weight.element_size()]).mul_(mask)
