"""Which weights of a group stay: those that cost most to remove once others make up for it."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from nxmi_export.compression.reconstruction.objective import OutputError
from nxmi_export.recipe import Pattern

__all__ = ["Choice", "given", "least_costly"]

# (first column, the weights of the columns (out, group)) to True where a weight stays
Choice: TypeAlias = Callable[[int, Tensor], Tensor]

DEAD = 1e12  # times less costly to remove than damping makes it: after every input that was seen


def least_costly(pattern: Pattern, objective: OutputError) -> Choice:
    """The choice by `pattern` for weights whose columns before the group are fixed.

    Removing weight w_j alone costs w_j²/(H⁻¹)_jj (optimal brain surgeon), H the form of the columns
    from the group on; the rest of a group is judged as if the others of it stayed, as in SparseGPT.
    Comparing all subsets of a group instead lowers the output error by 1 % in MiniLM, and only for
    groups whose subsets are few. Ties go to the lowest index.
    """
    variances = _inverse_diagonal(objective.factor, pattern.group)
    variances[objective.gram.diagonal() == 0] *= DEAD

    def choose(start: int, columns: Tensor) -> Tensor:
        saliency = columns**2 / variances[start : start + pattern.group]
        order = torch.argsort(saliency, dim=1, descending=True, stable=True)
        mask = torch.zeros_like(columns, dtype=torch.bool)
        return mask.scatter_(1, order[:, : pattern.keep], True)

    return choose


def given(mask: Tensor) -> Choice:
    """The choice already made in `mask`, (out, in)."""
    return lambda start, columns: mask[:, start : start + columns.shape[1]]


def _inverse_diagonal(factor: Tensor, group: int) -> Tensor:
    """The diagonal of H⁻¹ = UᵀU as it stands at the start of each column's group, (in,)."""
    count = len(factor) // group
    blocks = factor.reshape(count, group, count, group).diagonal(dim1=0, dim2=2)
    return (blocks**2).sum(dim=0).T.reshape(-1)  # blocks: (group, group, count), rows first
