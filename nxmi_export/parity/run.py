"""The results of all dev splits in, a run that is judged as a whole out."""

from collections.abc import Sequence
from dataclasses import dataclass

from nxmi_export.parity.gate import Gate, Verdict
from nxmi_export.parity.ladder import Stage
from nxmi_export.parity.result import ParityResult
from nxmi_export.parity.statistics import (
    Conclusion,
    Family,
    FamilyMember,
    ScoreComparison,
    judge_all,
)
from nxmi_export.parity.verdict import verdict

__all__ = ["ParityRun", "SplitParity", "judge_run"]


@dataclass(frozen=True)
class SplitParity:
    """One dev split: what was found, and whether the gate holds."""

    result: ParityResult
    verdict: Verdict
    member: FamilyMember | None = None  # None: its scores could not be compared


@dataclass(frozen=True)
class ParityRun:
    """Every dev split of every task, in the order in which they were asked for."""

    splits: tuple[SplitParity, ...]
    family: Family | None  # of the deployed rung's scores; None: no split's could be compared
    warnings: tuple[str, ...] = ()  # a sentence each; none of them fails the gate

    @property
    def ok(self) -> bool:
        """Whether every split passed; a run of none did not."""
        return bool(self.splits) and all(split.verdict.ok for split in self.splits)

    @property
    def conclusion(self) -> Conclusion | None:
        """What is proved of all splits together; None where none could be compared.

        One that was not compared leaves it open, unless another is shown to be harmed.
        """
        if self.family is None:
            return None
        whole = all(split.member is not None for split in self.splits)
        proved = self.family.conclusion
        return proved if whole or not proved.passes else Conclusion.INCONCLUSIVE

    @property
    def failures(self) -> tuple[str, ...]:
        """Every failed condition, after the name of its split where there are several."""
        return tuple(
            f"{split.result.name}: {failure}" if len(self.splits) > 1 else failure
            for split in self.splits
            for failure in split.verdict.failures
        )


def judge_run(
    results: Sequence[ParityResult], gate: Gate, warnings: Sequence[str] = ()
) -> ParityRun:
    """Hold every result to `gate`, claims about single splits corrected for their number.

    The family is compressed PyTorch against what is deployed: what compression costs is no claim
    of an export, and the steps between are parts of this one.
    """
    compared = {each.name: found for each in results if (found := _deployed(each))}
    family = judge_all(compared) if compared else None
    members = family.members if family else {}
    splits = tuple(
        SplitParity(each, verdict(each, gate, member), member)
        for each in results
        for member in [members.get(each.name)]
    )
    return ParityRun(splits, family, tuple(warnings))


def _deployed(result: ParityResult) -> ScoreComparison | None:
    step = result.step(Stage.COMPRESSED, Stage.OPTIMIZED)
    found = step.statistics if step else None
    return found if isinstance(found, ScoreComparison) else None
