"""A problem and what is ready for it in; sensitivities and scores, journalled and reported, out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nxmi_export.compression.training.processes import told_by_all
from nxmi_export.search.per_component import promising
from nxmi_export.search.per_layer import proposals
from nxmi_export.search.progress import (
    CandidateScored,
    Leader,
    Origin,
    Progress,
    SensitivityDone,
    SolutionFound,
    StageBegun,
)
from nxmi_export.search.ranking import Selection
from nxmi_export.search.rounds import score_in_rounds, shared_out
from nxmi_export.search.score import Score
from nxmi_export.search.sensitivity import Probe, Prober, Sensitivities, Sensitivity, probes
from nxmi_export.search.size import size_of
from nxmi_export.search.space import Candidate, SearchSpace, schemes_of
from nxmi_export.workflow.search.journal import Journal, Known
from nxmi_export.workflow.search.prepare import Problem, Ready

__all__ = ["Stage", "StageResult"]


@dataclass(frozen=True)
class StageResult:
    """One of the two searches, done."""

    origin: Origin
    sensitivities: Sensitivities
    candidates: tuple[Candidate, ...]
    scores: dict[Candidate, Score]
    selection: Selection

    @property
    def space(self) -> SearchSpace:
        """Where it searched."""
        return self.sensitivities.space


@dataclass(frozen=True)
class Stage:
    """How one search is done; `journal` and what is told are the main process's."""

    problem: Problem
    ready: Ready
    known: Known
    journal: Journal | None
    tell: Callable[[Progress], None]

    def per_component(self) -> StageResult:
        """Score every configuration within the budget, the most promising first."""
        sensitivities = self._sensitivities("component")
        self.tell(StageBegun("listing the configurations within the budget"))
        candidates = promising(sensitivities, self.problem.budget)
        return self._scored("component", sensitivities, candidates)

    def per_layer(self, before: StageResult | None) -> StageResult:
        """Score what solver and descent propose; `before` is the search per component."""
        sensitivities = self._sensitivities("layer")
        space, request = sensitivities.space, self.problem.request
        starts: list[Candidate] = []
        seen: set[Candidate] = set()
        if before is not None:
            same = {each: space.candidate(schemes_of(before.space, each)) for each in before.scores}
            starts = [same[each] for each in before.selection.best(before.scores)]
            seen = set(same.values())
        found: tuple[Candidate, ...] = ()
        if self.problem.accelerator.is_main_process:
            self.tell(StageBegun("solving for the best configurations"))
            found = proposals(
                sensitivities,
                self.problem.budget,
                request.proposals,
                starts=starts,
                known=seen,
                on_found=lambda n: self.tell(SolutionFound("proposals", n, request.proposals)),
            )
        found = self._of_main(found)
        return self._scored("layer", sensitivities, found)

    def _sensitivities(self, origin: Origin) -> Sensitivities:
        problem, space = self.problem, self.problem.spaces[origin]
        self.tell(StageBegun(f"measuring what each scheme costs per {origin}"))
        prober = Prober(
            self.ready.scorer,
            space,
            problem.data.slice.dataset,
            self.ready.reference,
            problem.request.probe_examples,
        )
        items, known = probes(space), self.known.sensitivities[origin]
        done: list[Probe] = []

        def hear(probe: Probe, found: Sensitivity) -> None:
            if self.journal is not None:
                self.journal.add_sensitivity(origin, probe, found)
            done.append(probe)
            reused = sum(each in known for each in done)
            self.tell(SensitivityDone(origin, len(done), len(items), reused))

        measured = shared_out(
            items,
            prober.measure,
            known=known,
            accelerator=problem.accelerator,
            on_result=hear,
        )
        return Sensitivities(space, measured, self.ready.curvature.grouped(space))

    def _scored(
        self, origin: Origin, sensitivities: Sensitivities, candidates: Sequence[Candidate]
    ) -> StageResult:
        problem, space = self.problem, sensitivities.space
        request, held = problem.request, problem.data.slice.dataset
        # Of two searches each has half of the error to spend.
        error = request.error / len(problem.spaces)
        selection = Selection(request.objective, request.keep, error)
        board = _Board(self, origin, space, selection, len(candidates))
        self.tell(StageBegun(f"scoring {len(candidates)} configurations per {origin}"))

        def score(candidate: Candidate, bar: Score | None) -> Score:
            stop = selection.stop(bar, held.task, held.labels)
            return self.ready.scorer.score(schemes_of(space, candidate), stop)

        scores = score_in_rounds(
            candidates,
            score,
            selection=selection,
            known=self.known.scores[origin],
            accelerator=problem.accelerator,
            on_score=board.add,
        )
        return StageResult(origin, sensitivities, tuple(candidates), scores, selection)

    def _of_main(self, found: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """What the main process has found, in all of them."""
        candidates: tuple[Candidate, ...] = told_by_all(self.problem.accelerator, found)[0]
        return candidates


@dataclass
class _Board:
    """The scores so far, of which each is journalled and told."""

    stage: Stage
    origin: Origin
    space: SearchSpace
    selection: Selection
    total: int
    scores: dict[Candidate, Score] = field(default_factory=dict)

    def add(self, candidate: Candidate, score: Score) -> None:
        self.scores[candidate] = score
        if self.stage.journal is not None:
            self.stage.journal.add_score(self.origin, candidate, score)
        known = self.stage.known.scores[self.origin]
        self.stage.tell(
            CandidateScored(
                origin=self.origin,
                number=len(self.scores),
                total=self.total,
                reused=sum(each in known for each in self.scores),
                stopped=sum(each.stopped for each in self.scores.values()),
                examples=sum(each.examples for each in self.scores.values()),
                slice=len(self.stage.problem.data.slice),
                leaders=tuple(map(self._leader, self.selection.best(self.scores))),
            )
        )

    def _leader(self, candidate: Candidate) -> Leader:
        problem, score = self.stage.problem, self.scores[candidate]
        names = (group.name for group in self.space.groups)
        latency = problem.latency
        return Leader(
            name=candidate.name,
            schemes=dict(zip(names, candidate.schemes, strict=True)),
            size=size_of(self.space, candidate, metadata=problem.request.metadata),
            seconds=latency.seconds(schemes_of(self.space, candidate)) if latency else None,
            divergence=score.divergence,
            metric=score.metric,
        )
