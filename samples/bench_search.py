"""What swapping weights in and stopping early save a search: seconds against the plain loop.

    python -m samples.bench_search --model DENSE --data GLUE_DIR [--task mrpc] [--candidates 60]

Both loops score the same configurations, drawn at random from those within the budget, on the same
slice of train. The plain loop does for each what one writes first: prune and round every weight,
build the model, run every example. The search's loop prepares each (linear, scheme) once, tries
each alone to know what to begin with, finds out which examples tell most, and gives up what cannot
get into the best five any more; all of that counts. The best five must be the same, or it exits
with 1. Each part's seconds are in the JSON. The plain loop once more with weights that were
prepared before: `plain, prepared`. --loops plain leaves it out, as each takes hours where all
configurations of a budget are scored.

--full also runs the whole search per component, as `nxmi-export search` does, and its seconds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from transformers import PreTrainedModel

from nxmi_export.compression.training.processes import join_processes
from nxmi_export.glue import task_named
from nxmi_export.processor import this_processor
from nxmi_export.recipe import preset
from nxmi_export.search.budget import feasible
from nxmi_export.search.ranking import Selection
from nxmi_export.search.rounds import score_in_rounds
from nxmi_export.search.score import (
    Score,
    Scorer,
    ScoringOptions,
    dense_logits,
    expected_divergences,
)
from nxmi_export.search.sensitivity import Probe, Prober, probes
from nxmi_export.search.space import Candidate, SearchSpace, recipe_for, schemes_of
from nxmi_export.search.superset import Superset, naive_model
from nxmi_export.search.variants import Projection, variants
from nxmi_export.workflow.search import SearchRequest, search_model
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.prepare import Problem, pilots

__all__ = ["compare"]

KEEP, ERROR, SEED = 5, 0.05, 0
LOOPS = PLAIN, PREPARED = "plain", "plain, prepared"

Scores = dict[Candidate, Score]


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    parts: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to that of `part`."""
        begun = time.perf_counter()
        yield
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - begun

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(self.parts.values())


class Built(Superset):
    """One candidate as a model of its own, where a scorer expects them all in one."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def use(self, schemes: object) -> None:
        """It is that candidate already."""


@dataclass(frozen=True)
class Setting:
    """What both loops share; making it is timed by neither."""

    problem: Problem
    space: SearchSpace
    candidates: tuple[Candidate, ...]
    options: ScoringOptions
    selection: Selection

    @classmethod
    def open(cls, request: SearchRequest, count: int) -> "Setting":
        """Draw `count` configurations within the budget."""
        problem = Problem.open(request, Outputs(request.output), join_processes(), lambda _: None)
        space = problem.spaces["component"]
        every = feasible(space, problem.budget)
        drawn = np.random.default_rng(SEED).permutation(len(every))[:count]
        options = ScoringOptions(
            seed=request.seed, precision=request.precision, order=problem.data.order
        )
        chosen = tuple(every[place] for place in drawn)
        selection = Selection(request.objective, KEEP, ERROR)
        return cls(problem, space, chosen, options, selection)


def compare(request: SearchRequest, count: int, loops: Sequence[str] = LOOPS) -> dict[str, Any]:
    """Seconds of all loops, their ratios, and whether they agree; the request is per component."""
    setting = Setting.open(request, count)
    scores: dict[str, Scores] = {}
    clocks = {name: Clock() for name in ("search", *loops)}
    scores["search"], superset = _search(setting, clocks["search"])
    reference = dense_logits(superset, setting.problem.data.slice, setting.options)
    for name in loops:
        prepared = name == PREPARED
        scores[name] = _plain(setting, superset, reference, clocks[name], prepared=prepared)
    best = {name: setting.selection.best(each) for name, each in scores.items()}
    stopped = sum(score.stopped for score in scores["search"].values())
    return {
        "task": request.task.name,
        "budget": setting.problem.budget.describe(),
        "projection": request.projection,
        "precision": request.precision,
        "slice": len(setting.problem.data.slice),
        "configurations": len(setting.candidates),
        "given_up_early": stopped,
        "examples_scored": sum(score.examples for score in scores["search"].values()),
        "seconds": {
            name: {"total": round(clock.total, 3), **_rounded(clock.parts)}
            for name, clock in clocks.items()
        },
        "times_as_fast_as": {
            name: round(clocks[name].total / clocks["search"].total, 2) for name in loops
        },
        "same_best": all(each == best["search"] for each in best.values()),
        "best": [each.name for each in best["search"]],
    }


def _search(setting: Setting, clock: Clock) -> tuple[Scores, Superset]:
    problem, space, request = setting.problem, setting.space, setting.problem.request
    data = problem.data
    options = {name: group.options for group in space.groups for name in group.linears}
    with clock.timed("preparing weights"):
        prepared = variants(
            problem.model, options, request.recipe, data.calibration, request.projection
        )
    with clock.timed("calibrating"):
        superset = Superset(problem.model, request.recipe, prepared, data.calibration)
    with clock.timed("running the dense model"):
        reference = dense_logits(superset, data.slice, setting.options)
    held = data.slice.dataset
    with clock.timed("weighing examples"):
        prober_options = replace(setting.options, seed=setting.options.seed + 1)
        scorer = Scorer(superset, data.slice, reference, prober_options)
        weights = expected_divergences([scorer.distances(each) for each in pilots(options)])
    with clock.timed("ordering"):
        prober = Prober(scorer, space, held, reference, request.probe_examples)
        costs = {probe: prober.measure(probe).divergence for probe in probes(space)}
        ordered = sorted(setting.candidates, key=lambda each: _predicted(space, each, costs))

    scorer = Scorer(superset, data.slice, reference, setting.options, weights)

    def score(candidate: Candidate, bar: Score | None) -> Score:
        stop = setting.selection.stop(bar, held.task, held.labels)
        return scorer.score(schemes_of(space, candidate), stop)

    with clock.timed("scoring"):
        scores = score_in_rounds(
            ordered,
            score,
            selection=setting.selection,
            known={},
            accelerator=problem.accelerator,
            on_score=lambda candidate, score: None,
        )
    return scores, superset


def _predicted(space: SearchSpace, candidate: Candidate, costs: dict[Probe, float]) -> float:
    groups = zip(space.groups, candidate.schemes, strict=True)
    return sum(costs[Probe(group.name, text)] for group, text in groups)


def _plain(
    setting: Setting, superset: Superset, reference: Any, clock: Clock, *, prepared: bool
) -> Scores:
    """Every configuration by itself; activation scales are those of the search, for free."""
    problem, request = setting.problem, setting.problem.request
    data, scales, scores = problem.data, superset.activation_scales, {}
    for candidate in setting.candidates:
        schemes = schemes_of(setting.space, candidate)
        weights = superset.variants
        if not prepared:
            with clock.timed("preparing weights"):
                alone = {name: (scheme,) for name, scheme in schemes.items()}
                weights = variants(
                    problem.model, alone, request.recipe, data.calibration, request.projection
                )
        with clock.timed("building"):
            recipe = recipe_for(setting.space, candidate, request.recipe)
            model = naive_model(problem.model, recipe, weights, scales)
        with clock.timed("scoring"):
            scorer = Scorer(Built(model), data.slice, reference, setting.options)
            scores[candidate] = scorer.score(schemes)
    return scores


def _rounded(parts: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in parts.items()}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="fine-tuned on the task")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--target", type=float, default=0.125, help="with metadata")
    parser.add_argument("--projection", choices=get_args(Projection), default="magnitude")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument(
        "--loops", nargs="+", choices=LOOPS, default=LOOPS, help="plain loops to run beside ours"
    )
    parser.add_argument("--full", action="store_true", help="also time the whole search")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        request = SearchRequest(
            model=str(arguments.model),
            task=task_named(arguments.task),
            output=Path(folder) / "search",
            target=arguments.target,
            recipe=preset("deploy"),
            per="component",
            projection=arguments.projection,
            keep=KEEP,
            error=ERROR,
            data_dir=arguments.data,
            precision=arguments.precision,
        )
        result = compare(request, arguments.candidates, tuple(dict.fromkeys(arguments.loops)))
        if arguments.full:
            found = search_model(request)
            assert found is not None  # one process
            result["full"] = {"seconds": round(found.seconds, 1), **found.as_json()["stops"]}
    result["machine"] = f"{this_processor()}; {torch.get_num_threads()} threads"
    result["versions"] = {name: version(name) for name in ("torch", "transformers", "numpy")}
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")
    if not result["same_best"]:
        raise SystemExit("the loops disagree about the best five")


if __name__ == "__main__":
    main()
