"""ADMM towards N:M patterns: weights are pulled to a sparse copy that follows them slowly.

Boyd et al., "Distributed Optimization and Statistical Learning via the Alternating Direction Method
of Multipliers", 2011, §3.1.1 (scaled form), for N:M sparsity Holmes et al., 2021:

    W   some optimizer steps on  f(W) + ρ/2 · ‖W − Z + U‖²
    Z ← Π(W + U)
    U ← U + W − Z

`Admm` takes the W-steps as published: the penalty's gradient joins that of f before the optimizer.
`ProximalAdmm` splits them: the optimizer steps on f, then W goes a part of the way to Z − U, which
is the penalty's proximal step. Adam divides what it is given by its own running size, so the same ρ
is too weak on one task and drowns the next one's gradients in the clipped norm; a proximal step
means the same everywhere. It is to the penalty what decoupled weight decay is to L2 (Loshchilov &
Hutter, 2019).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.progress import Residuals
from nxmi_export.compression.pruning.sparsifier import Sparsifier
from nxmi_export.compression.sparsity import pattern_mask

__all__ = ["Admm", "ProximalAdmm"]


class _Pull(NamedTuple):
    """Z and U of one linear, each of shape (out, in), in one float32 tensor and a mask.

    Z = Π(W + U) and U ← W + U − Z are the two parts of one tensor, never both non-zero, so that
    `towards`, which is Z − U, has Z where the mask is True and −U elsewhere. The gradient of the
    penalty then reads one tensor per linear at every step instead of two.
    """

    towards: Tensor
    mask: Tensor

    @classmethod
    def of(cls, total: Tensor, mask: Tensor) -> "_Pull":
        """Z and U as the parts of `total`, which is Z + U."""
        # exact, and faster than to choose: 2x − x and 0 − x do not round
        return cls(2 * (total * mask) - total, mask)

    def z(self) -> Tensor:
        return self.towards * self.mask


class Admm(Sparsifier):
    """Adds ρ·(W − Z + U) to the gradients; `update` moves Z and U.

    ρ is constant, or goes geometrically from `rho` to `rho_final` as progress goes from 0 to 1;
    `update` rescales U by what ρ has changed since, as ρ·U is the dual variable (Boyd, §3.4.1).

    Z begins as Π(W), or as `initial` (weights on their patterns), and U as W − Z where Z is zero.
    Where it is not, U begins as zero: for Π(W) it is zero there by itself, and for other weights Z
    itself is then what the penalty first pulls to, not as far again beyond it.
    """

    def __init__(
        self,
        linears: Mapping[str, CompressedLinear],
        rho: float,
        rho_final: float | None = None,
        initial: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(linears)
        self._first_rho = rho
        self._last_rho = rho if rho_final is None else rho_final
        self._rho = rho
        self._rho_before = rho  # at the last update
        self._initial = initial
        self._pulls: dict[str, _Pull] = {}

    @torch.no_grad()
    def start(self) -> None:
        """Set Z and U."""
        for name, linear in self._linears.items():
            weight = linear.weight.detach().float()
            if self._initial is None:
                self._pulls[name] = _Pull.of(weight, pattern_mask(weight, self._pattern(name)))
            else:
                z = self._initial[name].to(weight)
                mask = pattern_mask(z, self._pattern(name))
                self._pulls[name] = _Pull.of(torch.where(mask, z, weight), mask)
        self._initial = None

    @torch.no_grad()
    def add_gradients(self, progress: float) -> None:
        """Add the gradient of the penalty; under final masks, as for every method."""
        super().add_gradients(progress)
        self._advance(progress)
        for name, pull in self._pulls.items():
            weight = self._linears[name].weight
            if weight.grad is not None:
                weight.grad.add_(weight - pull.towards, alpha=self._rho)

    @torch.no_grad()
    def update(self) -> Residuals | None:
        """Move Z and U to the weights; waits for the device. None once the masks are final."""
        if self._masks is not None:
            return None
        sums = [self._move(name) for name in self._linears]
        self._rho_before = self._rho
        off, moved, size, changed = torch.stack(sums).sum(0).tolist()
        count = sum(linear.weight.numel() for linear in self._linears.values())
        return Residuals(
            primal=(off / size) ** 0.5,
            dual=self._rho * (moved / size) ** 0.5,
            churn=changed / count,
            rho=self._rho,
        )

    def project(self) -> None:
        """As for every method; Z and U have no further use."""
        super().project()
        self._pulls.clear()

    def state_dict(self) -> dict[str, Any]:
        """As for every method; `towards` is Z where `mask` is True and −U elsewhere."""
        pulls = {
            "towards": {name: pull.towards for name, pull in self._pulls.items()},
            "mask": {name: pull.mask for name, pull in self._pulls.items()},
        }
        return {**super().state_dict(), **pulls, "rho": (self._rho, self._rho_before)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As for every method."""
        super().load_state_dict(state)
        self._initial = None
        self._rho, self._rho_before = state["rho"]
        towards, mask = self._copied(state["towards"]), self._copied(state["mask"])
        self._pulls = {name: _Pull(towards[name], mask[name]) for name in towards}

    def _advance(self, progress: float) -> None:
        self._rho = self._first_rho * (self._last_rho / self._first_rho) ** progress

    def _move(self, name: str) -> Tensor:
        """‖W − Z‖², ‖Z − Z before‖², ‖W‖² and how many mask entries changed, float64 (4,)."""
        weight, before = self._linears[name].weight.detach().float(), self._pulls[name]
        z_before = before.z()
        rescaled = self._rho_before / self._rho
        total = weight + (z_before - before.towards) * rescaled  # W + U
        pull = _Pull.of(total, pattern_mask(total, self._pattern(name)))
        self._pulls[name] = pull
        z = pull.z()
        norms = [torch.linalg.vector_norm(part) for part in (weight - z, z - z_before, weight)]
        changed = (pull.mask != before.mask).sum()
        return torch.stack([*(norm.double().square() for norm in norms), changed.double()])


class ProximalAdmm(Admm):
    """Moves W towards Z − U after every optimizer step; gradients and clipping stay the task's.

    Between two updates, `steps_per_update` steps, W − Z + U shrinks by the share `share` (0…1,
    1 excluded), by `share_final` at the end, if the optimizer leaves W where it is. The ρ of the
    residuals is the logarithm of that shrinkage, which is what adds up over steps.
    """

    def __init__(
        self,
        linears: Mapping[str, CompressedLinear],
        share: float,
        share_final: float,
        steps_per_update: int,
        initial: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(linears, -math.log1p(-share), -math.log1p(-share_final), initial)
        self._steps = steps_per_update

    @torch.no_grad()
    def add_gradients(self, progress: float) -> None:
        """Nothing before the masks are final; then as for every method."""
        Sparsifier.add_gradients(self, progress)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Take the proximal step; under final masks, as for every method."""
        super().after_step(progress)
        self._advance(progress)
        part = -math.expm1(-self._rho / self._steps)
        for name, pull in self._pulls.items():
            weight = self._linears[name].weight
            weight.lerp_(pull.towards.to(weight.dtype), part)
