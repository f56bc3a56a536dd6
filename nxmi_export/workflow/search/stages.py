"""A problem and what is ready for it in; sensitivities and scores, journalled and reported, out."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from nxmi_export.compression.training.processes import failing_together, told_by_all
from nxmi_export.search.conditional import Marginals, changes_of
from nxmi_export.search.per_component import centres, promising
from nxmi_export.search.per_layer import Proposals, proposals
from nxmi_export.search.program import THOROUGH
from nxmi_export.search.progress import (
    Origin,
    Progress,
    Remark,
    SensitivityDone,
    SolutionFound,
    StageBegun,
)
from nxmi_export.search.ranking import Selection
from nxmi_export.search.rounds import score_in_rounds, shared_out
from nxmi_export.search.score import Score
from nxmi_export.search.sensitivity import Probe, Prober, Sensitivities, Sensitivity, probes
from nxmi_export.search.space import Candidate, SearchSpace, schemes_of
from nxmi_export.workflow.search.journal import Journal, Known
from nxmi_export.workflow.search.leaderboard import Leaderboard
from nxmi_export.workflow.search.prepare import Problem, Ready

__all__ = ["Stage", "StageResult"]

Found = TypeVar("Found")
Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class StageResult:
    """One of the two searches, done."""

    origin: Origin
    sensitivities: Sensitivities
    candidates: tuple[Candidate, ...]
    scores: dict[Candidate, Score]
    selection: Selection
    # What single changes of other candidates predict of the divergence: of each configuration per
    # component, by which they are ordered, and per layer of each that a refinement proposed.
    conditional: dict[Candidate, float] = field(default_factory=dict)
    gap: float | None = None  # of the solver's optimum, as in `Solution`; None: no solver was asked

    @property
    def space(self) -> SearchSpace:
        """Where it searched."""
        return self.sensitivities.space

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should know of how it was done."""
        return (_open(self.gap),) if self.gap else ()


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
        sensitivities, promised = self.sensitivities("component"), self.promising()
        found = self._search("component", sensitivities, tuple(promised))
        return replace(found, conditional=promised)

    def promising(self) -> dict[Candidate, float]:
        """Every configuration per component within the budget, in the order of their scoring."""
        space, budget = self.problem.spaces["component"], self.problem.budget
        self.tell(StageBegun("measuring single changes of uniform configurations"))
        around = self.marginals(space, centres(space, budget))
        self.tell(StageBegun("listing the configurations within the budget"))
        return self.of_main(lambda: promising(around, budget))

    def per_layer(self, before: StageResult | None) -> StageResult:
        """Score what solver and descent propose; `before` is the search per component."""
        sensitivities = self.sensitivities("layer")
        space, request = sensitivities.space, self.problem.request
        starts: list[Candidate] = []
        seen: set[Candidate] = set()
        if before is not None:
            same = {each: space.candidate(schemes_of(before.space, each)) for each in before.scores}
            starts = [same[each] for each in before.selection.best(before.scores)]
            seen = set(same.values())

        def solved() -> Proposals:
            self.tell(StageBegun("solving for the best configurations"))
            return proposals(
                sensitivities,
                self.problem.budget,
                request.proposals,
                included=[c for c in space.uniforms() if self.problem.budget.admits(space, c)],
                starts=starts,
                known=seen,
                on_found=lambda n: self.tell(SolutionFound("proposals", n, request.proposals)),
            )

        proposed = self.of_main(solved)
        if proposed.gap:
            self.tell(Remark(_open(proposed.gap)))
        found = self._search("layer", sensitivities, proposed.candidates)
        return replace(found, gap=proposed.gap)

    def _prober(self, space: SearchSpace) -> Prober:
        """Of the groups of `space`, on some examples of the slice."""
        return Prober(
            self.ready.prober,
            space,
            self.problem.data.slice.dataset,
            self.ready.reference,
            self.problem.request.probe_examples,
        )

    def _measured(
        self,
        origin: Origin,
        items: Sequence[Item],
        work: Callable[[Item], Sensitivity],
        *,
        known: Mapping[Item, Sensitivity],
        hear: Callable[[Item, Sensitivity], None],
        refinement: int = 0,
        uniform: bool = False,
    ) -> dict[Item, Sensitivity]:
        """What `work` finds of each of `items`; the processes share them out and all are told.

        `hear` hears of each in the main process.
        """
        number = reused = 0

        def on_result(item: Item, found: Sensitivity) -> None:
            nonlocal number, reused
            hear(item, found)
            number, reused = number + 1, reused + (item in known)
            self.tell(SensitivityDone(origin, number, len(items), reused, refinement, uniform))

        return shared_out(
            items, work, known=known, accelerator=self.problem.accelerator, on_result=on_result
        )

    def marginals(
        self, space: SearchSpace, centres: Sequence[Candidate], *, refinement: int = 0
    ) -> tuple[Marginals, ...]:
        """Every single change of each of `centres`, measured, journalled and told.

        They are uniform ones unless a round of `refinement` asks.
        """
        prober, known = self._prober(space), self.known.marginals
        items = [(centre, probe) for centre in centres for probe in changes_of(space, centre)]

        def hear(item: tuple[Candidate, Probe], found: Sensitivity) -> None:
            if self.journal is not None:
                self.journal.add_marginal(*item, found)

        measured = self._measured(
            space.granularity,
            items,
            lambda item: prober.measure(item[1], item[0]),
            known={
                (centre, probe): known[centre][probe]
                for centre, probe in items
                if probe in known.get(centre, {})
            },
            hear=hear,
            refinement=refinement,
            uniform=not refinement,
        )
        of_centre: dict[Candidate, dict[Probe, Sensitivity]] = {each: {} for each in centres}
        for (centre, probe), each in measured.items():
            of_centre[centre][probe] = each
        return tuple(Marginals(space, centre, found) for centre, found in of_centre.items())

    def scored(
        self,
        sensitivities: Sensitivities,
        candidates: Sequence[Candidate],
        *,
        before: Mapping[Candidate, Score] = MappingProxyType({}),
        refinement: int = 0,
    ) -> dict[Candidate, Score]:
        """The score of each of `candidates`, where those scored `before` set the bar."""
        space, held = sensitivities.space, self.problem.data.slice.dataset
        selection = self.selection(space.granularity)
        board = Leaderboard(
            *(self.problem, self.journal, self.known.scores[space.granularity], self.tell),
            space=space,
            selection=selection,
            total=len(candidates),
            refinement=refinement,
            best=before,
        )
        self.tell(StageBegun(f"scoring {len(candidates)} configurations per {space.granularity}"))

        def score(candidate: Candidate, bar: Score | None) -> Score:
            stop = selection.stop(bar, held.task, held.labels)
            return self.ready.scorer.score(schemes_of(space, candidate), stop)

        return score_in_rounds(
            candidates,
            score,
            selection=selection,
            known=self.known.scores[space.granularity],
            accelerator=self.problem.accelerator,
            on_score=board.add,
            before=before,
        )

    def of_main(self, find: Callable[[], Found]) -> Found:
        """What `find` returns in the main process, which alone calls it, in all of them."""
        accelerator = self.problem.accelerator
        own: Found | None = None
        with failing_together(accelerator):
            if accelerator.is_main_process:
                own = find()
        found: Found = told_by_all(accelerator, own)[0]
        return found

    def selection(self, origin: Origin) -> Selection:
        """How one of the searches ranks; of two, each has half of the error to spend."""
        request = self.problem.request
        error = request.error / len(self.problem.spaces)
        # Around the best so far the search per layer proposes more, in each refinement.
        centres = request.refinements if origin == "layer" else 0
        return Selection(request.objective, request.keep, error, centres)

    def sensitivities(self, origin: Origin) -> Sensitivities:
        """What each scheme costs each group of one of the searches, and how that adds up."""
        space = self.problem.spaces[origin]
        self.tell(StageBegun(f"measuring what each scheme costs per {origin}"))

        def hear(probe: Probe, found: Sensitivity) -> None:
            if self.journal is not None:
                self.journal.add_sensitivity(origin, probe, found)

        measured = self._measured(
            origin,
            probes(space),
            self._prober(space).measure,
            known=self.known.sensitivities[origin],
            hear=hear,
        )
        return Sensitivities(space, measured, self.ready.curvature.grouped(space))

    def _search(
        self, origin: Origin, sensitivities: Sensitivities, candidates: Sequence[Candidate]
    ) -> StageResult:
        scores = self.scored(sensitivities, candidates)
        selection = self.selection(origin)
        return StageResult(origin, sensitivities, tuple(candidates), scores, selection)


def _open(gap: float) -> str:
    return (
        f"the solver did not prove its best within {THOROUGH.nodes} nodes: by what each scheme "
        f"costs alone, another configuration per layer may lose up to {100 * gap:.2g} % less"
    )
