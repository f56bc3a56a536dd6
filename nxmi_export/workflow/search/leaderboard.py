"""Scores of one search in, one after the other; its journal and reports of the best so far out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nxmi_export.search.progress import CandidateScored, Leader, Origin, Progress
from nxmi_export.search.ranking import Selection
from nxmi_export.search.score import Score
from nxmi_export.search.size import size_of
from nxmi_export.search.space import Candidate, SearchSpace, schemes_of
from nxmi_export.workflow.search.journal import Journal
from nxmi_export.workflow.search.prepare import Problem

__all__ = ["Leaderboard"]


@dataclass
class Leaderboard:
    """What is known of the scores so far, of which each is journalled and told."""

    problem: Problem
    journal: Journal | None
    known: Mapping[Candidate, Score]  # what an interrupted run had scored
    tell: Callable[[Progress], None]
    space: SearchSpace
    selection: Selection
    total: int
    refinement: int
    best: Mapping[Candidate, Score]  # also of those scored before, which are not counted
    number: int = 0
    reused: int = 0
    stopped: int = 0
    examples: int = 0

    def add(self, candidate: Candidate, score: Score) -> None:
        """Take the next one."""
        origin: Origin = self.space.granularity
        if self.journal is not None:
            self.journal.add_score(origin, candidate, score)
        self.number += 1
        self.reused += candidate in self.known
        self.stopped += score.stopped
        self.examples += score.examples
        # The best of all are among these; to sort all for each would be quadratic.
        contenders = {**self.best, candidate: score}
        self.best = {each: contenders[each] for each in self.selection.best(contenders)}
        self.tell(
            CandidateScored(
                origin=origin,
                number=self.number,
                total=self.total,
                reused=self.reused,
                stopped=self.stopped,
                examples=self.examples,
                slice=len(self.problem.data.slice),
                leaders=tuple(self._leader(*each) for each in self.best.items()),
                refinement=self.refinement,
            )
        )

    def _leader(self, candidate: Candidate, score: Score) -> Leader:
        problem = self.problem
        names = (group.name for group in self.space.groups)
        latency = problem.latency
        return Leader(
            name=candidate.name,
            schemes=dict(zip(names, candidate.schemes, strict=True)),
            size=size_of(self.space, candidate, metadata=problem.request.metadata),
            seconds=latency.seconds(schemes_of(self.space, candidate)) if latency else None,
            source=latency.source if latency else None,
            divergence=score.divergence,
            metric=score.metric,
        )
