"""SR-STE: masks follow the dense weights, whose pruned part decays.

Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", 2021.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.pruning.sparsifier import Sparsifier

__all__ = ["SrSte"]


class SrSte(Sparsifier):
    """The forward pass runs the pruned weight; its gradient goes to the whole one.

    To it comes `decay` · W where W is pruned (equation 9 of the paper), which keeps a weight from
    entering and leaving the mask at every step.

    As in the authors' code, the term joins the gradient before the optimizer. Under SGD, for which
    the paper writes it, a pruned weight then loses the share γ · `decay` of itself a step, γ being
    the learning rate. Under AdamW, which trains here, the sum is divided by the root of its running
    square: where the task's gradients g of a weight are large, it loses about
    γ · `decay` · W / rms(g); where they are nearly nothing, about γ whatever `decay` is. The same
    `decay` is therefore a stronger pull than the paper's wherever rms(g) is below 1, and strongest
    on the weights that the task asks least of.
    """

    def __init__(self, linears: Mapping[str, CompressedLinear], decay: float) -> None:
        super().__init__(linears)
        self._decay = decay

    @torch.no_grad()
    def start(self) -> None:
        """Prune what the forward pass sees."""
        self._show(self._magnitude_masks())

    @torch.no_grad()
    def add_gradients(self, progress: float) -> None:
        """Add the decay of what is pruned; under final masks, as for every method."""
        super().add_gradients(progress)
        for name, mask in self._followed().items():
            weight = self._linears[name].weight
            if weight.grad is not None:
                weight.grad.add_(weight * ~mask, alpha=self._decay)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Follow the weights; under final masks, as for every method."""
        super().after_step(progress)
        if self._masks is None:
            self._show(self._magnitude_masks())

    @torch.no_grad()
    def project(self) -> None:
        """As for every method; the forward pass then runs the weight as it is."""
        super().project()
        self._show({})

    def state_dict(self) -> dict[str, Any]:
        """As for every method."""
        return {**super().state_dict(), "followed": self._followed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As for every method."""
        super().load_state_dict(state)
        self._show(self._copied(state["followed"]))

    def _followed(self) -> dict[str, Tensor]:
        masks = {name: linear.straight_through_mask for name, linear in self._linears.items()}
        return {name: mask for name, mask in masks.items() if mask is not None}

    def _show(self, masks: Mapping[str, Tensor]) -> None:
        """Let the forward pass run the weights under `masks`, and whole where there is none."""
        for name, linear in self._linears.items():
            linear.straight_through_mask = masks.get(name)
