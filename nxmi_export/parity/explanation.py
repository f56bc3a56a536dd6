"""What the replay of one example says about where its difference comes from."""

from dataclasses import dataclass

from nxmi_export.parity.judge import CodeDifference

__all__ = ["Explanation"]


@dataclass(frozen=True)
class Explanation:
    """Where one example's difference comes from."""

    index: int  # into the dataset
    explained: bool | None  # None: the codes cannot be observed
    reason: str  # one sentence
    first_difference: CodeDifference | None = None  # in order of execution
    differing_codes: int = 0  # from equal inputs, over all quantizers
    largest_gap: float = 0.0  # between pre-rounding ratios, in steps of a scale
