"""Two models' predictions of one dev set in, one `ScoreComparison` with its conclusion out."""

from dataclasses import asdict, dataclass
from typing import Any

from nxmi_export.parity.statistics.conclusion import Conclusion, Reason, conclude, reasons
from nxmi_export.parity.statistics.correlations import CorrelationDifference, correlation_difference
from nxmi_export.parity.statistics.evidence import evidence_of
from nxmi_export.parity.statistics.mcnemar import McNemar, mcnemar
from nxmi_export.parity.statistics.pairs import Pairs
from nxmi_export.parity.statistics.power import Power, power_of
from nxmi_export.parity.statistics.terms import Terms

__all__ = ["ScoreComparison", "compare_scores"]


@dataclass(frozen=True)
class ScoreComparison:
    """The primary scores of two models on the same examples; differences are candidate − reference.

    `lower` and `upper` each hold with the confidence of `terms`.
    """

    task: str
    metric: str
    examples: int
    changed: int  # predictions that are not equal
    reference: float
    candidate: float
    difference: float
    lower: float
    upper: float
    standard_error: float
    method: str
    reasons: tuple[Reason, ...]
    power: Power
    terms: Terms
    mcnemar: McNemar | None  # of a classification: are both right equally often
    correlation: CorrelationDifference | None  # of a regression

    @property
    def conclusion(self) -> Conclusion:
        """What is proved of this task alone; of several, see `judge_all`."""
        return conclude(self.reasons)

    def as_json(self) -> dict[str, Any]:
        """Plain data: numbers, strings, lists and null."""
        return {
            **asdict(self),
            "conclusion": self.conclusion.value,
            "reasons": [
                {
                    "claim": each.claim.value,
                    "p_value": each.p_value,
                    "proved": each.proved,
                    "sentence": str(each),
                }
                for each in self.reasons
            ],
            "power": {**asdict(self.power), "sentence": str(self.power)},
        }

    def __str__(self) -> str:
        low, high, seen = (100 * each for each in (self.lower, self.upper, self.difference))
        return (
            f"{self.task}: {self.conclusion}; the {self.metric} of {self.examples} examples "
            f"changed by {seen:+.2f} points, {low:+.2f} to {high:+.2f} with "
            f"{100 * self.terms.confidence:g} % confidence in each limit"
        )


def compare_scores(pairs: Pairs, terms: Terms | None = None) -> ScoreComparison:
    """Test the difference of the primary scores against the margin.

    The same pairs and terms give the same result, bit for bit. Raises DataError where resampling
    meets a correlation that is not defined.
    """
    terms = terms or Terms()
    evidence = evidence_of(pairs, terms)
    before, after = pairs.scores
    regression = pairs.task.is_regression
    return ScoreComparison(
        task=pairs.task.name,
        metric=pairs.task.primary_metric,
        examples=len(pairs),
        changed=pairs.changed,
        reference=before,
        candidate=after,
        difference=pairs.difference,
        lower=evidence.lower,
        upper=evidence.upper,
        standard_error=evidence.standard_error,
        method=evidence.method,
        reasons=reasons(evidence.p_values, terms),
        power=power_of(evidence.standard_error, evidence.floor, terms.confidence),
        terms=terms,
        mcnemar=None if regression else mcnemar(pairs.gains, pairs.losses),
        correlation=correlation_difference(pairs, terms.confidence) if regression else None,
    )
