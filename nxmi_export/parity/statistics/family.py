"""Comparisons of several tasks in, what is proved of each and of all out.

Testing nine tasks at 5 % finds one false alarm in more than a third of the runs. Claims about
single tasks are therefore corrected by Holm (1979, Scandinavian Journal of Statistics 6:65-70).
The claim that *every* task is equivalent needs no correction: it is made only where each test
succeeds (intersection-union test: R. L. Berger, 1982, Technometrics 24:295-300).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nxmi_export.errors import UsageError
from nxmi_export.parity.statistics.comparison import ScoreComparison
from nxmi_export.parity.statistics.conclusion import (
    Claim,
    Conclusion,
    Reason,
    conclude,
    reasons,
)

__all__ = ["Family", "FamilyMember", "holm", "judge_all"]


@dataclass(frozen=True)
class FamilyMember:
    """One comparison, its p-values corrected for the others."""

    comparison: ScoreComparison
    reasons: tuple[Reason, ...]

    @property
    def conclusion(self) -> Conclusion:
        """What is proved of this task, however many others were looked at."""
        return conclude(self.reasons)


@dataclass(frozen=True)
class Family:
    """Every comparison by name, and what holds for all of them together."""

    members: Mapping[str, FamilyMember]

    @property
    def conclusion(self) -> Conclusion:
        """Inferior where any task is shown to be; else the weakest conclusion of any task alone."""
        if any(each.conclusion is Conclusion.INFERIOR for each in self.members.values()):
            return Conclusion.INFERIOR
        alone = {each.comparison.conclusion for each in self.members.values()}
        if not all(conclusion.passes for conclusion in alone):
            return Conclusion.INCONCLUSIVE
        weaker = Conclusion.NOT_INFERIOR in alone
        return Conclusion.NOT_INFERIOR if weaker else Conclusion.EQUIVALENT

    def as_json(self) -> dict[str, Any]:
        """Plain data, members in their order."""
        return {
            "conclusion": self.conclusion.value,
            "members": {
                name: {
                    "conclusion": each.conclusion.value,
                    "adjusted": {reason.claim.value: reason.p_value for reason in each.reasons},
                    "comparison": each.comparison.as_json(),
                }
                for name, each in self.members.items()
            },
        }


def judge_all(comparisons: Mapping[str, ScoreComparison]) -> Family:
    """Correct every claim for the number of comparisons; margins may differ, confidence may not.

    Raises UsageError for no comparison at all.
    """
    confidences = sorted({each.terms.confidence for each in comparisons.values()})
    if len(confidences) != 1:
        raise UsageError(
            "judging several tasks",
            expected="at least one comparison, all with one confidence",
            found=" and ".join(map(str, confidences)) or "none",
            remedy="compare them on the same terms",
        )
    adjusted = {
        claim: holm([_p_value(each, claim) for each in comparisons.values()]) for claim in Claim
    }
    return Family(
        {
            name: FamilyMember(
                each, reasons({claim: adjusted[claim][place] for claim in Claim}, each.terms)
            )
            for place, (name, each) in enumerate(comparisons.items())
        }
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's adjusted p-values, in the order given; each is compared with the level itself."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return tuple(adjusted.tolist())


def _p_value(comparison: ScoreComparison, claim: Claim) -> float:
    return next(reason.p_value for reason in comparison.reasons if reason.claim is claim)
