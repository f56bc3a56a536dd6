"""A linear layer in, how large and how long the rows that it makes can become out.

By Hölder and by Cauchy and Schwarz on each stored column, and by the largest singular value on the
whole matrix; all in float64, on the numbers as they are dequantized.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from passes.constants import constant_array
from passes.linear_layers import LinearLayer

__all__ = ["LinearBounds"]

_NEUTRAL = {"alpha": 1.0, "beta": 1.0, "transA": 0}


@dataclass(frozen=True, eq=False)
class LinearBounds:
    """`y = x W + b` with constant numbers."""

    weight: npt.NDArray[np.float64]  # (K, N)
    bias: npt.NDArray[np.float64]  # (N,), or (1,) of zero where there is none

    @classmethod
    def of(cls, layer: LinearLayer) -> Self | None:
        """None where the graph computes a scale or a bias, or a Gemm scales its operands.

        The bias of a Gemm is part of its product; that of a MatMul is an Add of its own.
        """
        node, weight = layer.node, layer.weight
        if any(
            name in node.attributes and node.attributes[name].value != neutral
            for name, neutral in _NEUTRAL.items()
        ):
            return None
        matrix = weight.matrix.astype(np.float64)
        if weight.dequantize is not None:
            steps = weight.steps
            if steps is None:
                return None
            matrix *= steps.astype(np.float64)
        if node.op_type != "Gemm" or layer.bias is None:
            return cls(matrix, np.zeros(1))
        bias = constant_array(layer.bias)
        return None if bias is None else cls(matrix, bias.astype(np.float64).reshape(-1))

    def largest(self, element: float, norm: float) -> float:
        """Of any output, for rows with no larger `element` and no greater length than `norm`."""
        by_sum = element * np.abs(self.weight).sum(axis=0)
        by_length = norm * np.linalg.norm(self.weight, axis=0)
        bounds = np.fmin(by_sum, by_length) + np.abs(self.bias)  # fmin: 0 × infinity is NaN
        return float(bounds.max(initial=0)) if np.isfinite(bounds).all() else math.inf

    def norm(self, norm: float) -> float:
        """The length of any output row, for rows of no greater length than `norm`."""
        return self.stretch * norm + float(np.linalg.norm(self.bias))

    @cached_property
    def stretch(self) -> float:
        """The largest singular value of the weight."""
        rows, columns = self.weight.shape
        gram = self.weight @ self.weight.T if rows < columns else self.weight.T @ self.weight
        return math.sqrt(max(float(np.linalg.eigvalsh(gram)[-1]), 0.0))
