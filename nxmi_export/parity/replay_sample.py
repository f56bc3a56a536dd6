"""Two rungs in, the few examples whose logits are worth a forced replay out."""

import numpy as np

from nxmi_export.errors import UsageError
from nxmi_export.parity.ladder import RungResult

__all__ = ["replay_sample"]


def replay_sample(
    reference: RungResult, candidate: RungResult, count: int, *, seed: int
) -> tuple[int, ...]:
    """At most `count` examples: half of them those with the largest logit gaps, the rest random.

    A fault that changes no prediction of a dev set moves the logits of some examples most, or of
    all of them alike. The number does not grow with the dev set. Raises UsageError for rungs over
    different numbers of examples.
    """
    before, after = reference.logits, candidate.logits
    if before.shape != after.shape:
        raise UsageError(
            f"replaying {candidate.name}",
            expected=f"the {len(before)} examples of {reference.name}",
            found=f"{len(after)}",
            remedy="run both rungs over one dataset",
        )
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is furthest of all
        gaps = np.abs(after.astype(np.float64) - before).max(axis=1)
    furthest = np.argsort(-np.nan_to_num(gaps, nan=np.inf), kind="stable")[: (count + 1) // 2]
    others = np.setdiff1d(np.arange(len(gaps)), furthest)
    generator = np.random.default_rng(seed)
    drawn = generator.choice(others, min(count // 2, len(others)), replace=False)
    return tuple(sorted(int(index) for index in (*furthest, *drawn)))
