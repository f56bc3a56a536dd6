"""A checkpoint's weights in, whether each linear's follow its N:M pattern out."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from nxmi_export.backends.tensorrt_engine import Verdict
from nxmi_export.certificate.claims import Cell, answered, not_claimed
from nxmi_export.certificate.promises import LinearPromise
from passes.numerics import group_violations

__all__ = ["mask_in_checkpoint"]


def mask_in_checkpoint(
    linear: LinearPromise, state: Mapping[str, Tensor] | None, absent: str
) -> Cell:
    """Count the groups along in_features that hold more non-zeros than the pattern allows.

    `state` is the checkpoint's, and None where there is none to read, for the reason `absent`.
    """
    pattern = linear.scheme.pattern
    if pattern is None:
        return not_claimed(f"the scheme is {linear.scheme}")
    if state is None:
        return answered(Verdict.UNPROVEN, absent)
    name = f"{linear.module}.weight"
    if name not in state:
        return answered(Verdict.REFUTED, f"the checkpoint has no {name}")
    weight = state[name].detach().cpu().float().numpy()  # (out, in)
    if weight.ndim != 2 or weight.shape[1] % pattern.group:
        found = f"{name} has the shape {weight.shape}, no matrix of groups of {pattern.group}"
        return answered(Verdict.REFUTED, found)
    crowded = group_violations(weight, pattern.keep, pattern.group, axis=1)
    if not len(crowded):
        zeros = float(np.mean(weight == 0))
        groups = weight.size // pattern.group
        return answered(Verdict.PROVED, f"{groups} groups, {zeros:.1%} of the weights are zero")
    row, start = int(crowded[0][0]), int(crowded[0][1]) * pattern.group
    numbers = [f"{number:g}" for number in weight[row, start : start + pattern.group]]
    return answered(
        Verdict.REFUTED,
        f"not {pattern} at {[row, start]}, where it is [{', '.join(numbers)}], one of "
        f"{len(crowded)} such groups",
    )
