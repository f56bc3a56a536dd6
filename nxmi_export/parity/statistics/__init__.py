"""Whether two models score alike, as far as one dev set can tell.

    comparison = compare_scores(Pairs(task, labels, reference, candidate), Terms(margin=0.005))
    family = judge_all({"mrpc": comparison, "stsb": other})

A difference that is not significant is no proof of equality, so equality is what is tested: against
a margin, by two one-sided tests. Of the libraries it needs numpy and scipy alone.
"""

from nxmi_export.parity.statistics.comparison import ScoreComparison, compare_scores
from nxmi_export.parity.statistics.conclusion import Claim, Conclusion, Reason
from nxmi_export.parity.statistics.family import Family, FamilyMember, judge_all
from nxmi_export.parity.statistics.pairs import Pairs
from nxmi_export.parity.statistics.power import Power
from nxmi_export.parity.statistics.terms import Terms

__all__ = [
    "Claim",
    "Conclusion",
    "Family",
    "FamilyMember",
    "Pairs",
    "Power",
    "Reason",
    "ScoreComparison",
    "Terms",
    "compare_scores",
    "judge_all",
]
