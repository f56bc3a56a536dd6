"""What every method of pruning shares: when a trainer calls it, and the phase under final masks."""

import abc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.progress import Residuals
from nxmi_export.compression.sparsity import apply_mask, pattern_mask
from nxmi_export.recipe import Pattern

__all__ = ["Sparsifier"]


class Sparsifier(abc.ABC):
    """Leads the linears that have a pattern onto it, in step with an optimizer.

        start(), or load_state_dict(…)                  once the weights are on their device
        every step:  backward, (unscale), add_gradients, clip, optimizer step, after_step
                     (the last two only where the step is taken)
        update()                                        at the rate of the recipe
        with projected(): …                             to measure what projecting now would cost
        project()                                       from here on the masks are final

    All of it is a function of the weights, so processes that hold equal weights stay equal, and
    nothing within a step waits for the device. Shared weights are pruned once.
    """

    def __init__(self, linears: Mapping[str, CompressedLinear]) -> None:
        self._linears = {
            name: linear for name, linear in linears.items() if linear.scheme.pattern is not None
        }
        # name → True where a weight stays; None until the masks are final
        self._masks: dict[str, Tensor] | None = None

    @abc.abstractmethod
    def start(self) -> None:
        """Begin, from the weights as they are now."""

    @torch.no_grad()
    def add_gradients(self, progress: float) -> None:
        """Add the method's own part to every `.grad`; unscaled gradients, before clipping.

        `progress` is the share of the steps before the projection that are done, 0…1. Under final
        masks the gradients of pruned weights become zero instead, so that weights which cannot
        move take no part in the norm that is clipped, nor in the optimizer's moments.
        """
        for name, mask in (self._masks or {}).items():
            gradient = self._linears[name].weight.grad
            if gradient is not None:
                gradient.mul_(mask)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Put right what the optimizer's step did to the pattern; `progress` counts the step."""
        # momentum and weight decay move pruned weights even where their gradient is zero
        self._apply(self._masks or {})

    def update(self) -> Residuals | None:
        """The method's slow step, if it has one and the masks are not final."""
        return None

    @torch.no_grad()
    def project(self) -> None:
        """Set every weight to its nearest neighbour on its pattern; the masks are final now."""
        self._masks = self._magnitude_masks()
        self._apply(self._masks)

    def finally_masked(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every weight whose mask is final, and its mask: True where the weight stays."""
        for name, mask in (self._masks or {}).items():
            yield self._linears[name].weight, mask

    @contextmanager
    def projected(self) -> Iterator[None]:
        """Put the weights on their patterns for a while; afterwards they are what they were."""
        if self._masks is not None:
            yield  # they are there
            return
        with torch.no_grad():
            masters = {name: linear.weight.clone() for name, linear in self._linears.items()}
            self._apply(self._magnitude_masks())
        try:
            yield
        finally:
            with torch.no_grad():
                for name, master in masters.items():
                    self._linears[name].weight.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        """Everything that, beside the weights, decides how it goes on; tensors are not copied."""
        return {"masks": self._masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, in place of `start`; copies to the weights' devices."""
        masks = state["masks"]
        self._masks = None if masks is None else self._copied(masks)

    def _magnitude_masks(self) -> dict[str, Tensor]:
        return {
            name: pattern_mask(linear.weight, self._pattern(name))
            for name, linear in self._linears.items()
        }

    def _apply(self, masks: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            apply_mask(self._linears[name].weight, mask)

    def _pattern(self, name: str) -> Pattern:
        pattern = self._linears[name].scheme.pattern
        assert pattern is not None
        return pattern

    def _copied(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of every tensor beside the weight of the same name."""
        return {
            name: tensor.to(self._linears[name].weight.device, copy=True)
            for name, tensor in tensors.items()
        }
