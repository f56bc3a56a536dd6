"""Linears for tests of pruning, and a task whose gradient is known: ½‖W − goal‖² for each."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nxmi_export.compression import CompressedLinear
from nxmi_export.recipe import Scheme

SCHEMES = {"first": "2:4", "middle": "dense", "second": "1:4", "third": "4:8"}


def some_linears(seed: int = 0) -> dict[str, CompressedLinear]:
    """One linear per scheme, shapes (6, 16), weights normally distributed."""
    torch.manual_seed(seed)
    return {
        name: CompressedLinear(nn.Linear(16, 6), Scheme.parse(scheme))
        for name, scheme in SCHEMES.items()
    }


def some_goals(seed: int = 1) -> dict[str, Tensor]:
    """Where the task wants the weights of `some_linears`."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(6, 16, generator=generator) for name in SCHEMES}


def backward(linears: Mapping[str, CompressedLinear], goals: Mapping[str, Tensor]) -> None:
    """Set `.grad` to the gradient of the task: W − goal."""
    for name, linear in linears.items():
        linear.weight.grad = (linear.weight - goals[name]).detach()


def weights_of(linears: Mapping[str, CompressedLinear]) -> dict[str, Tensor]:
    """Copies of the weights."""
    return {name: linear.weight.detach().clone() for name, linear in linears.items()}


def patterned(linears: Mapping[str, CompressedLinear]) -> dict[str, CompressedLinear]:
    """Those with a pattern."""
    return {name: linear for name, linear in linears.items() if linear.scheme.pattern}


def is_on_pattern(linear: CompressedLinear) -> bool:
    """Whether no group of the weight has more non-zeros than the pattern allows."""
    pattern = linear.scheme.pattern
    assert pattern is not None
    counts = linear.weight.reshape(-1, pattern.group).count_nonzero(1)
    return bool((counts <= pattern.keep).all())
