"""Pruning once, at the start (ASP): the weights train under masks that never change."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.pruning.sparsifier import Sparsifier

__all__ = ["FixedMasks"]


class FixedMasks(Sparsifier):
    """The masks of the first weights, or of `initial`, throughout (Mishra et al., 2021).

    `initial` maps module names to weights on their patterns, which replace the ones in place.
    """

    def __init__(
        self,
        linears: Mapping[str, CompressedLinear],
        initial: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(linears)
        self._initial = initial

    @torch.no_grad()
    def start(self) -> None:
        """Take the initial weights, if there are any, and project."""
        if self._initial is not None:
            for name, linear in self._linears.items():
                linear.weight.copy_(self._initial[name])
        self._initial = None
        self.project()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As for every method."""
        super().load_state_dict(state)
        self._initial = None
