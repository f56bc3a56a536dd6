"""A weight (out, in) in, the reach of each group of its rows out: where its quantizer saturates.

A group is `rows` consecutive output rows that share one step; the last may have fewer. Per-group
tensors have shape (groups,), per-row tensors (out,).
"""

import torch
from torch import Tensor

from nxmi_export.fake_quantize import IntegerRange, fake_quantize
from nxmi_export.recipe import Calibration

__all__ = ["best_ratios", "largest_magnitudes", "per_row", "scales"]

DEAD_CHANNEL_SCALE = 1.0  # for a channel of zeros, which has no maximum; engines refuse 0

# The search of `mse`, from the full range down; the first of equals wins, which saturates least.
RATIOS = tuple(percent / 100 for percent in range(100, 19, -1))


def largest_magnitudes(weight: Tensor, rows: int) -> Tensor:
    """The largest magnitude of each group."""
    largest = weight.abs().amax(dim=1)
    return largest if rows == 1 else _grouped(largest[:, None], rows).amax(dim=1)


def best_ratios(
    weight: Tensor, rows: int, limits: IntegerRange, calibration: Calibration
) -> Tensor:
    """What share of its largest magnitude each group's range should reach, 0…1.

    A group of zeros gets 1.
    """
    largest = largest_magnitudes(weight, rows)
    if calibration.method == "percentile":
        return torch.nan_to_num(_percentiles(weight, rows, calibration.percent) / largest, nan=1)
    if calibration.method == "mse":
        return _least_squares(weight, rows, limits, largest)
    return torch.ones_like(largest)


def scales(largest: Tensor, ratio: Tensor, limits: IntegerRange) -> Tensor:
    """The steps whose outermost code stands for `ratio` of the largest magnitude, per group."""
    step = largest / limits.high * ratio
    # Of a subnormal scale the largest weight no longer lands on the largest code.
    return torch.where(step < torch.finfo(step.dtype).tiny, DEAD_CHANNEL_SCALE, step)


def per_row(groups: Tensor, rows: int, out_features: int) -> Tensor:
    """A per-group tensor, each value repeated for its rows."""
    return groups if rows == 1 else groups.repeat_interleave(rows)[:out_features]


def _least_squares(weight: Tensor, rows: int, limits: IntegerRange, largest: Tensor) -> Tensor:
    best = torch.ones_like(largest)
    least = torch.full_like(largest, torch.inf, dtype=torch.float64)
    for ratio in RATIOS:
        step = per_row(scales(largest, torch.full_like(best, ratio), limits), rows, len(weight))
        error = (fake_quantize(weight, step, limits, axis=0) - weight).square_().sum(1)
        error = _grouped(error[:, None].double(), rows).sum(1)
        best = torch.where(error < least, ratio, best)
        least = torch.minimum(error, least)
    return best


def _percentiles(weight: Tensor, rows: int, percent: float) -> Tensor:
    """The magnitude that `percent` of a group's non-zero weights do not exceed, by nearest rank."""
    ascending = _grouped(weight.abs(), rows).sort(dim=1).values
    nonzero = ascending.count_nonzero(dim=1)
    rank = torch.ceil(nonzero.double() * (percent / 100)).long()
    index = (ascending.shape[1] - nonzero + rank - 1).clamp_(max=ascending.shape[1] - 1)
    return ascending.gather(1, index[:, None])[:, 0]


def _grouped(x: Tensor, rows: int) -> Tensor:
    """(out, n) to (groups, rows·n); a short last group is filled with zeros."""
    missing = -len(x) % rows
    whole = torch.nn.functional.pad(x, (0, 0, 0, missing)) if missing else x
    return whole.reshape(-1, rows * x.shape[1])
