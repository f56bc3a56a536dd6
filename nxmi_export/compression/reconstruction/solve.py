"""A weight and its output error in, the sparse or rounded weight that keeps the output out.

Every function works on whole weights (out, in), float32; the rows do not influence each other.
"""

import torch
from torch import Tensor

from nxmi_export.compression.reconstruction.choose import Choice
from nxmi_export.compression.reconstruction.grid import Snap
from nxmi_export.compression.reconstruction.objective import OutputError

__all__ = ["descend", "eliminate"]

BLOCK = 128  # columns whose effect on the rest is applied in one matrix product


def eliminate(
    weight: Tensor, objective: OutputError, choice: Choice, snap: Snap, *, group: int
) -> tuple[Tensor, Tensor]:
    """Prune and snap column by column, each error compensated in the columns behind it.

    Returns the weight and the mask of what stayed. SparseGPT's algorithm 1: for column j with
    error e = (w_j − ŵ_j)/U_jj, the columns from j on lose e·U_j. `choice` is asked once per `group`
    of columns, which divides the width, and sees weights that already carry the compensation.
    """
    rest, factor = weight.clone(), objective.factor
    result, mask = torch.zeros_like(weight), torch.zeros_like(weight, dtype=torch.bool)
    width = weight.shape[1]
    block = max(BLOCK // group, 1) * group  # whole groups
    for start in range(0, width, block):
        end = min(start + block, width)
        errors = torch.zeros_like(rest[:, start:end])
        for j in range(start, end):
            if j % group == 0:
                mask[:, j : j + group] = choice(j, rest[:, j : j + group])
            result[:, j] = torch.where(mask[:, j], snap(rest[:, j]), 0.0)
            error = (rest[:, j] - result[:, j]) / factor[j, j]
            rest[:, j:end] -= torch.outer(error, factor[j, j:end])
            errors[:, j - start] = error
        rest[:, end:] -= errors @ factor[start:end, end:]
    return result, mask


def descend(
    weight: Tensor,
    start: Tensor,
    objective: OutputError,
    mask: Tensor,
    snap: Snap,
    *,
    sweeps: int,
) -> Tensor:
    """Lower the damped output error of `start` against `weight`, one column after the other.

    Each column moves to the allowed value nearest to the minimum of its parabola, the best value
    there is while the others stay; so the error never rises. What `mask` leaves out stays zero.
    """
    result, gram = start.clone(), objective.damped
    gradient = (result - weight) @ gram  # half of it
    width = weight.shape[1]
    for first in list(range(0, width, BLOCK)) * sweeps:
        end = min(first + BLOCK, width)
        local = gradient[:, first:end].clone()
        moves = torch.zeros_like(local)
        for j in range(first, end):
            minimum = result[:, j] - local[:, j - first] / gram[j, j]
            moved = torch.where(mask[:, j], snap(minimum), 0.0)
            move = moved - result[:, j]
            result[:, j] = moved
            moves[:, j - first] = move
            local += torch.outer(move, gram[j, first:end])
        gradient += moves @ gram[first:end]
    return result
