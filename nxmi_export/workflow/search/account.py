"""The searches that were done in, the `SearchResult` and its recipes out."""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nxmi_export._version import __version__
from nxmi_export.checkpoint import checkpoint_sha256
from nxmi_export.glue import predict, primary, score
from nxmi_export.recipe import Recipe
from nxmi_export.search.agreement import Agreement, agreement
from nxmi_export.search.frontier import Optimum
from nxmi_export.search.score import Score
from nxmi_export.search.size import size_of
from nxmi_export.search.space import Candidate, SearchSpace, recipe_for, schemes_of
from nxmi_export.workflow.search.picture import Picture
from nxmi_export.workflow.search.prepare import Problem, Ready
from nxmi_export.workflow.search.result import (
    FrontierPoint,
    Measured,
    Ranked,
    SearchResult,
    StopStatistics,
    Uniform,
)
from nxmi_export.workflow.search.stages import StageResult

__all__ = ["account"]

_LIBRARIES = ("torch", "transformers", "accelerate", "numpy", "scipy")
_PREDICTIONS = ("predicted", "predicted_with_interactions", "predicted_conditionally")
# Of a search's options, beside the budget, the recipe and the files.
_OPTIONS = (
    *(
        "per",
        "projection",
        "objective",
        "keep",
        "error",
        "proposals",
        "refinements",
        "probe_examples",
    ),
    *("holdout", "slice_limit", "max_length", "seed", "precision"),
)


def account(
    problem: Problem,
    ready: Ready,
    stages: Sequence[StageResult],
    picture: Picture,
    *,
    begun: float,
) -> tuple[SearchResult, dict[str, Recipe]]:
    """Everything worth knowing, and the recipe of each file that the ranking names.

    `begun` is when, by `time.perf_counter`.
    """
    request, last = problem.request, stages[-1]
    entries = _ordered(stages)
    measured = [_measured(problem, *entry) for entry in entries]
    # The layer search has none where the other one has scored everything within the budget.
    origins = dict.fromkeys(each.origin for each in measured)
    winners = {
        origin: next(place for place, each in enumerate(measured) if each.origin == origin)
        for origin in origins
    }
    chosen = sorted({*range(min(request.keep, len(entries))), *winners.values()})
    ranked = {place: Ranked(place + 1, _file(place), measured[place]) for place in chosen}
    result = SearchResult(
        output=request.output,
        task=request.task,
        task_argument=request.task.argument_in(request.output),
        budget=_budget(problem),
        budget_in_words=problem.budget.describe(),
        candidates={stage.origin: len(stage.candidates) for stage in stages},
        dense=_dense(problem, ready),
        ranked=tuple(ranked[place] for place in range(min(request.keep, len(entries)))),
        winners={origin: ranked[place] for origin, place in winners.items()},
        measured=tuple(measured),
        frontier=tuple(_point(problem, last.space, each, picture) for each in picture.optima),
        uniform=tuple(_uniform(problem, last.space, each, picture) for each in picture.uniform),
        sensitivities={stage.origin: _sensitivities(stage) for stage in stages},
        stops={stage.origin: _stops(problem, stage) for stage in stages},
        agreement={
            stage.origin: _agreements([e for e in measured if e.origin == stage.origin])
            for stage in stages
        },
        gaps={stage.origin: stage.gap for stage in stages if stage.gap is not None},
        remarks=(
            *problem.remarks,
            *(each for stage in stages for each in stage.remarks),
            *_fewer(len(entries), request.keep),
        ),
        latency=_latency(problem),
        options=_options(problem),
        data=problem.data.as_json(),
        source=_source(problem),
        versions={"nxmi-export": __version__, **{name: version(name) for name in _LIBRARIES}},
        seconds=time.perf_counter() - begun,
    )
    recipes = {
        ranked[place].recipe: recipe_for(entries[place][0].space, entries[place][1], request.recipe)
        for place in chosen
    }
    return result, recipes


_Entry = tuple[StageResult, Candidate, Score]


def _ordered(stages: Sequence[StageResult]) -> list[_Entry]:
    """Every complete score of all searches, best first."""
    entries = [
        (stage, candidate, stage.scores[candidate])
        for stage in stages
        for candidate in stage.selection.ordered(stage.scores)
    ]
    return sorted(entries, key=lambda entry: (entry[0].selection.cost(entry[2]), entry[0].origin))


def _measured(problem: Problem, stage: StageResult, candidate: Candidate, score: Score) -> Measured:
    space = stage.space
    assert score.metric is not None  # it is complete
    return Measured(
        origin=stage.origin,
        name=candidate.name,
        schemes=_schemes(space, candidate),
        **_costs(problem, space, candidate),
        divergence=score.divergence,
        metric=_number(score.metric),
        predicted=stage.sensitivities.additive(candidate),
        predicted_with_interactions=stage.sensitivities.with_interactions(candidate),
        predicted_conditionally=stage.conditional.get(candidate),
    )


def _fewer(complete: int, keep: int) -> Iterator[str]:
    if complete < keep:
        yield f"{keep} configurations were to be kept, and {complete} were scored completely"


def _costs(problem: Problem, space: SearchSpace, candidate: Candidate) -> dict[str, Any]:
    schemes, latency = schemes_of(space, candidate), problem.latency
    return {
        "nominal": size_of(space, candidate, metadata=False),
        "with_metadata": size_of(space, candidate, metadata=True),
        "seconds": latency.seconds(schemes) if latency else None,
    }


def _agreements(measured: Sequence[Measured]) -> dict[str, dict[str, Agreement]]:
    """How well each prediction orders all complete scores, and those that refinements proposed.

    Where all have the prediction that refinements make, as per component, they are one set.
    """
    told = [each for each in measured if each.predicted_conditionally is not None]
    if told and len(told) == len(measured):
        return {"all": _agreement(measured, _PREDICTIONS)}
    found = {"all": _agreement(measured, _PREDICTIONS[:2])}
    return {**found, "refinements": _agreement(told, _PREDICTIONS)} if told else found


def _agreement(measured: Sequence[Measured], names: Sequence[str]) -> dict[str, Agreement]:
    divergences = [each.divergence for each in measured]
    return {
        name: agreement([getattr(each, name) for each in measured], divergences) for name in names
    }


def _file(place: int) -> str:
    return f"ranked/{place + 1:02}.yaml"


def _budget(problem: Problem) -> dict[str, Any]:
    size, latency = problem.budget.size, problem.budget.latency
    return {
        "size": {"target": size.target, "metadata": size.metadata} if size else None,
        "latency": {
            "seconds": latency.seconds,
            "share": latency.seconds / latency.model.dense_seconds,
            "source": latency.model.source,
            "device": latency.model.device,
        }
        if latency
        else None,
    }


def _dense(problem: Problem, ready: Ready) -> dict[str, float | None]:
    dataset, latency = problem.data.slice.dataset, problem.latency
    scores = score(dataset.task, predict(dataset.task, ready.reference), dataset.labels)
    return {
        "metric": _number(primary(dataset.task, scores)),
        "seconds": latency.dense_seconds if latency else None,
    }


def _point(
    problem: Problem, space: SearchSpace, optimum: Optimum, picture: Picture
) -> FrontierPoint:
    return FrontierPoint(
        swept=optimum.swept,
        predicted=optimum.predicted,
        **_drawn(problem, space, optimum.candidate, picture),
    )


def _uniform(
    problem: Problem, space: SearchSpace, candidate: Candidate, picture: Picture
) -> Uniform:
    return Uniform(scheme=candidate.schemes[0], **_drawn(problem, space, candidate, picture))


def _drawn(
    problem: Problem, space: SearchSpace, candidate: Candidate, picture: Picture
) -> dict[str, Any]:
    score = picture.scores[candidate]
    assert score.metric is not None  # it is complete
    return {
        **_costs(problem, space, candidate),
        "divergence": score.divergence,
        "metric": _number(score.metric),
        "schemes": _schemes(space, candidate),
    }


def _schemes(space: SearchSpace, candidate: Candidate) -> dict[str, str]:
    names = (group.name for group in space.groups)
    return dict(zip(names, candidate.schemes, strict=True))


def _sensitivities(stage: StageResult) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for probe, each in stage.sensitivities.measured.items():
        found.setdefault(probe.group, {})[probe.scheme] = each._asdict()
    return found


def _stops(problem: Problem, stage: StageResult) -> StopStatistics:
    scores = stage.scores.values()
    return StopStatistics(
        error=stage.selection.error,
        candidates=len(scores),
        stopped=sum(each.stopped for each in scores),
        examples=sum(each.examples for each in scores),
        examples_possible=len(scores) * len(problem.data.slice),
    )


def _latency(problem: Problem) -> dict[str, Any] | None:
    table, wanted = problem.table, problem.request.latency
    if table is None or wanted is None:
        return None
    return {
        "source": table.source,
        "device": table.device,
        "batch": wanted.batch,
        "sequence": wanted.sequence,
        "conditions": dict(table.conditions),
    }


def _options(problem: Problem) -> dict[str, Any]:
    request = problem.request
    return {
        "recipe": request.recipe_name,
        "schemes": [str(scheme) for scheme in request.schemes],
        **{name: getattr(request, name) for name in _OPTIONS},
    }


def _source(problem: Problem) -> Mapping[str, Any]:
    request = problem.request
    path = Path(request.model)
    return {
        "path": request.model,
        # from the folder of the search, where the page that names them lies
        "model": _from(request.output, request.model),
        "base": None if request.base is None else _from(request.output, request.base),
        "architecture": problem.source.architecture,
        "sha256": checkpoint_sha256(path) if path.exists() else None,
    }


def _from(folder: Path, name: str) -> str:
    """A local path as it is written in `folder`; another name as it is."""
    return os.path.relpath(name, folder) if Path(name).exists() else name


def _number(value: float) -> float | None:
    """JSON has no word for the correlation of equal predictions."""
    return value if math.isfinite(value) else None
