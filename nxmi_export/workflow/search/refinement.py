"""A search per layer in, the same with the neighbours of its best measured and scored out."""

from dataclasses import replace

from nxmi_export.search.conditional import Marginals, improvements
from nxmi_export.search.progress import SolutionFound, StageBegun
from nxmi_export.search.score import Score
from nxmi_export.search.space import Candidate, schemes_of
from nxmi_export.workflow.search.stages import Stage, StageResult

__all__ = ["refined_by_measuring"]


def refined_by_measuring(
    stage: Stage, found: StageResult, before: StageResult | None
) -> StageResult:
    """Rounds of `request.refinements` around the best, until one brings nothing better.

    `found` is the search per layer. The best may be one that the search per component, `before`,
    has scored: its scores count, as they are of the same model on the same examples.
    """
    others = _in_space_of(found, before)
    for number in range(1, stage.problem.request.refinements + 1):
        centre = _best(found, others)
        found = _round(stage, found, others, centre, number)
        if _best(found, others) == centre:
            break
    return found


def _round(
    stage: Stage,
    found: StageResult,
    others: dict[Candidate, Score],
    centre: Candidate,
    number: int,
) -> StageResult:
    stage.tell(StageBegun(f"measuring single changes of the best so far, round {number}"))
    [marginals] = stage.marginals(found.space, (centre,), refinement=number)
    proposed = stage.of_main(lambda: _proposed(stage, marginals, {*found.scores, *others}))
    more = stage.scored(found.sensitivities, proposed, before=found.scores, refinement=number)
    predicted = {each: marginals.predicted(each) for each in proposed}
    return replace(
        found,
        candidates=(*found.candidates, *proposed),
        scores={**found.scores, **more},
        conditional={**found.conditional, **predicted},
    )


def _proposed(stage: Stage, marginals: Marginals, known: set[Candidate]) -> tuple[Candidate, ...]:
    stage.tell(StageBegun("solving for the best changes"))
    wanted = stage.problem.request.proposals
    return improvements(
        marginals,
        stage.problem.budget,
        wanted,
        known=known,
        on_found=lambda count: stage.tell(SolutionFound("proposals", count, wanted)),
    )


def _in_space_of(found: StageResult, before: StageResult | None) -> dict[Candidate, Score]:
    if before is None:
        return {}
    return {
        found.space.candidate(schemes_of(before.space, each)): score
        for each, score in before.scores.items()
    }


def _best(found: StageResult, others: dict[Candidate, Score]) -> Candidate:
    return found.selection.ordered({**others, **found.scores})[0]
