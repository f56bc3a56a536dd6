"""A loss that is no number in, the place where the numbers ended out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["first_not_finite"]


def first_not_finite(model: nn.Module, forward: Callable[[], object]) -> str | None:
    """Where, in order of execution, `forward` first gives a value that is NaN or infinite.

    "the output of bert.pooler", for instance; of nested modules the innermost. Where every output
    is finite, the first gradient that is not; None where there is none.
    """
    with _watched(model) as bad, torch.no_grad():
        forward()
    if bad:
        return f"the output of {bad[0]}"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return None


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    bad: list[str] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not all(tensor.isfinite().all() for tensor in _tensors(output)):
                bad.append(name)

        return hook

    handles = [
        module.register_forward_hook(look(name or "the model"))
        for name, module in model.named_modules()
    ]
    try:
        yield bad
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):  # transformers' outputs are ordered dictionaries
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)
