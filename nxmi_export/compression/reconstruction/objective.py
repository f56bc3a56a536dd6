"""The inputs of a layer in, the quadratic form that says what a change of its weight costs out."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nxmi_export.errors import CheckpointError

__all__ = ["InputGram", "OutputError"]

DAMPING = 0.01  # of the mean diagonal, as in SparseGPT: calibration data leave directions unseen


class InputGram:
    """XᵀX over the tokens of any number of batches.

    The products of one batch are float32, fast and exact enough for a few thousand tokens. Their
    sum is float64, so that later batches are not rounded off against a large total.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self.total = torch.zeros(width, width, dtype=torch.float64, device=device)

    def add(self, x: Tensor, real: Tensor | None) -> None:
        """Count the inputs `x`, (…, width); of those, only where `real` (…) is true.

        Padding computes values that no output depends on, and there is often more of it than text.
        A value of another shape than `real` has no padding to tell apart.
        """
        if real is not None and real.shape == x.shape[:-1]:
            x = x[real]
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1]).float()
            self.total += (rows.T @ rows).double()


@dataclass(frozen=True, eq=False)
class OutputError:
    """‖(W − Ŵ)·X‖² as tr(E·G·Eᵀ), E = W − Ŵ, with the Gram matrix G = X·Xᵀ of the inputs.

    G has no full rank where inputs are dead or data are few, so the methods work on `damped`, which
    adds a small multiple of ‖E‖². The kept weights of an input that was always zero then stay as
    they are, in case it is not always zero after all.
    """

    gram: Tensor  # (in, in), float32
    damped: Tensor  # (in, in), float32, positive definite

    @classmethod
    def of(cls, gram: Tensor, name: str) -> "OutputError":
        """From a float64 Gram matrix; raises CheckpointError where an input was not finite."""
        scale = gram.diagonal().mean()
        if not torch.isfinite(scale):
            raise CheckpointError(
                name,
                expected="finite inputs on the calibration data",
                found="NaN or infinity",
                remedy="start from weights of a training run that did not diverge",
            )
        if scale == 0:  # a layer that reads only zeros: every weight costs the same
            gram = torch.zeros_like(gram)
            scale = torch.ones_like(scale)
        gram = gram / scale  # the tokens' number and size cancel out of every decision
        damped = gram + DAMPING * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return cls(gram.float(), damped.float())

    @cached_property
    def factor(self) -> Tensor:
        """The upper Cholesky factor U of the inverse: damped⁻¹ = UᵀU, (in, in), float32.

        Rows and columns from j on, UᵀU is the inverse for the columns from j on alone, which is
        what is needed when the columns before are fixed. Inverting squares the rounding errors of
        a condition number up to 1e5, so this is float64; it is done once per input.
        """
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(self.damped.double()))
        upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
        return upper.float()

    def of_weight(self, weight: Tensor, approximation: Tensor) -> float:
        """The squared output error over the squared output; 0 where the output is zero."""
        error = (weight - approximation).float()
        spent = float(((error @ self.gram) * error).sum())
        whole = float(((weight.float() @ self.gram) * weight.float()).sum())
        return spent / whole if whole > 0 else 0.0
