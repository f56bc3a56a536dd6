"""The linears of a model in, their variants out, prepared by all processes of a launch together."""

from collections.abc import Callable, Collection, Mapping
from itertools import zip_longest

import torch
from accelerate import Accelerator
from torch import Tensor

from nxmi_export.compression.training.processes import failing_together, told_by_all
from nxmi_export.recipe import Scheme
from nxmi_export.search.variants import Variant, Variants

__all__ = ["shared_variants"]

_CPU = torch.device("cpu")


def shared_variants(
    dense: Mapping[str, Tensor],
    prepare: Callable[[Collection[str]], Variants],
    accelerator: Accelerator,
) -> Variants:
    """What `prepare` makes of all linears, in every process, where each prepares some of them.

    `dense` are their weights, (out, in); linears that take longest are dealt out first.
    """
    if accelerator.num_processes == 1:
        return prepare(tuple(dense))
    dealt = sorted(dense, key=lambda name: _cost(dense[name]), reverse=True)
    hands = [dealt[rank :: accelerator.num_processes] for rank in range(accelerator.num_processes)]
    with failing_together(accelerator):
        own = prepare(hands[accelerator.process_index])
    found: dict[str, dict[Scheme, Variant]] = {}
    for names in zip_longest(*hands):  # one of each at a time, as what travels is held twice
        name = names[accelerator.process_index]
        mine = {} if name is None else {name: _travelling(own.of(name))}
        for each in told_by_all(accelerator, mine):
            found |= each
    prepared = {
        (name, scheme): variant.to(weight.device)
        for name, weight in dense.items()
        for scheme, variant in found[name].items()
    }
    return Variants(dense, prepared)


def _cost(weight: Tensor) -> int:
    """Of a reconstruction, in proportion: every row is solved column by column."""
    rows, columns = weight.shape
    return rows * columns**2


def _travelling(variants: Mapping[Scheme, Variant]) -> dict[Scheme, Variant]:
    """Not on a device of this process, which another may not have."""
    return {scheme: variant.to(_CPU) for scheme, variant in variants.items()}
