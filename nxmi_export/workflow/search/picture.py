"""The last of the searches in, what is drawn beside the configurations that it ranked out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nxmi_export.errors import DataError
from nxmi_export.search.frontier import Optimum, frontier
from nxmi_export.search.progress import PointScored, SolutionFound, StageBegun
from nxmi_export.search.rounds import shared_out
from nxmi_export.search.score import Score
from nxmi_export.search.space import Candidate, SearchSpace, schemes_of
from nxmi_export.workflow.search.stages import Stage, StageResult

__all__ = ["Picture", "picture_of"]


@dataclass(frozen=True)
class Picture:
    """Configurations of the last search's space, whatever they cost, scored on the whole slice."""

    optima: Sequence[Optimum]
    uniform: Sequence[Candidate]  # one scheme everywhere
    scores: Mapping[Candidate, Score]  # of both, complete


def picture_of(stage: Stage, last: StageResult) -> Picture:
    """What the solver takes at each size and latency, and one scheme everywhere.

    Those whose outputs are not finite are left out: they are no reason to lose a search.
    """
    space, uniform = last.space, last.space.uniforms()
    optima = stage.of_main(lambda: _optima(stage, last))
    uniform = tuple(each for each in uniform if len(set(each.schemes)) == 1)
    scores = _scores(stage, space, [*(each.candidate for each in optima), *uniform], last.scores)
    return Picture(
        [each for each in optima if each.candidate in scores],
        [each for each in uniform if each in scores],
        scores,
    )


def _optima(stage: Stage, last: StageResult) -> tuple[Optimum, ...]:
    stage.tell(StageBegun("drawing the frontier"))
    return frontier(
        last.sensitivities,
        metadata=stage.problem.request.metadata,
        latency=stage.problem.latency,
        on_found=lambda number, total: stage.tell(SolutionFound("frontier", number, total)),
    )


def _scores(
    stage: Stage,
    space: SearchSpace,
    candidates: Sequence[Candidate],
    known: Mapping[Candidate, Score],
) -> dict[Candidate, Score]:
    """The finite ones, of which those that are complete in `known` are not computed again.

    No journal holds them: where it has given a candidate up, a resumed search must do so again.
    """
    items, number = tuple(dict.fromkeys(candidates)), 0
    complete: dict[Candidate, Score | None] = {
        each: score for each, score in known.items() if each in items and not score.stopped
    }
    stage.tell(StageBegun(f"scoring {len(items)} configurations for the picture"))

    def score(candidate: Candidate) -> Score | None:
        try:
            return stage.ready.scorer.score(schemes_of(space, candidate))
        except DataError:
            return None

    def on_result(candidate: Candidate, found: Score | None) -> None:
        nonlocal number
        number += 1
        stage.tell(PointScored(number, len(items)))

    accelerator = stage.problem.accelerator
    scores = shared_out(items, score, known=complete, accelerator=accelerator, on_result=on_result)
    return {candidate: found for candidate, found in scores.items() if found is not None}
