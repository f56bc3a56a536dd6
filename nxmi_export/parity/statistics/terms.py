"""What is to be shown, and how surely: the margin, the confidence, and the randomness."""

from dataclasses import dataclass

from nxmi_export.errors import UsageError

__all__ = ["Terms"]

FEWEST_RESAMPLES = 999  # fewer cannot give a p-value below 0.001, and Holm divides by the tasks


@dataclass(frozen=True)
class Terms:
    """The terms of a comparison; fixed before the data are seen, or p-values mean nothing.

    `confidence` is that of each limit alone, one-sided: 0.95 is a 90 % interval, which is what two
    one-sided tests at 5 % ask for (Schuirmann, 1987). Raises UsageError for terms that cannot be.
    """

    margin: float = 0.005  # of the primary score, whose range is 1: half a point
    confidence: float = 0.95
    resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise UsageError(
                "margin",
                expected="a score difference between 0 and 1, ends excluded",
                found=f"{self.margin}",
                remedy="no data can show two scores to be equal; half a point is 0.005",
            )
        if not 0.5 < self.confidence < 1:
            raise UsageError(
                "confidence",
                expected="a share between 0.5 and 1, ends excluded",
                found=f"{self.confidence}",
                remedy="95 % is 0.95",
            )
        if self.resamples < FEWEST_RESAMPLES:
            raise UsageError(
                "resamples",
                expected=f"at least {FEWEST_RESAMPLES}",
                found=f"{self.resamples}",
                remedy="9999 is the default",
            )

    @property
    def error(self) -> float:
        """The one-sided error rate, usually written α."""
        return 1 - self.confidence
