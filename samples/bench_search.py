"""What swapping weights in and stopping early save a search: seconds against the plain loop.

    python -m samples.bench_search --model DENSE --data GLUE_DIR [--task mrpc] [--candidates 60]

Both loops score the same configurations, drawn at random from those within the budget, on the same
slice of train. The plain loop does for each what one writes first: prune and round every weight,
build the model, run every example, sorted by length, in batches that were padded once before. The
search is the one per component that `nxmi-export search` does, with its defaults, on these
configurations instead of all: it prepares each (linear, scheme) once, finds out which examples tell
most, differentiates the model and tries each scheme alone to know what to begin with, and gives up
what cannot get into the best five any more. All of that counts; the JSON has the seconds of each
part by the name that the search reports. The best five must be the same, in the same order, or it
exits with 1. The plain loop once more with weights that were prepared before: `plain, prepared`.
--loops plain leaves it out, as each takes an hour where all configurations of a budget are scored.
Under --projection reconstruction, the search's default, a plain loop takes a working day; here it
is magnitude. --sample 20 runs plain loops on 20 configurations drawn at random, whose seconds are
scaled to all, and, without a clock, on the search's best five, which must be the best of these.

--full also runs the whole search per component, from files to files, and its seconds.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO, get_args

import numpy as np
import torch
from rich.progress import track
from transformers import PreTrainedModel

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.compression.training.processes import join_processes
from nxmi_export.encoding.dataset import Batch
from nxmi_export.glue import predict, primary, score, task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.processor import this_processor
from nxmi_export.recipe import preset
from nxmi_export.search.budget import feasible
from nxmi_export.search.progress import Progress, StageBegun
from nxmi_export.search.ranking import Selection
from nxmi_export.search.score import Score, divergences
from nxmi_export.search.space import Candidate, recipe_for, schemes_of
from nxmi_export.search.superset import naive_model
from nxmi_export.search.variants import Projection, variants
from nxmi_export.workflow.compress.data import EVALUATION_BATCH
from nxmi_export.workflow.search import SearchRequest, search_model
from nxmi_export.workflow.search.journal import Known
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.prepare import Problem, Ready
from nxmi_export.workflow.search.stages import Stage
from nxmi_export.workflow.task_head import InTaskOrder
from samples.fine_tune import CONSOLE

__all__ = ["compare"]

SEED = 0  # of the draw
LOOPS = PLAIN, PREPARED = "plain", "plain, prepared"

Scores = dict[Candidate, Score]


@dataclass
class Clock:
    """Seconds by what they were spent on, one thing after the other."""

    parts: dict[str, float] = field(default_factory=dict)
    _part: str | None = None
    _begun: float = 0.0

    def begin(self, part: str) -> None:
        """End what went on until now; from here on it is `part`."""
        self.end()
        self._part, self._begun = part, time.perf_counter()

    def end(self) -> None:
        """Nothing goes on any more that counts."""
        if self._part is not None:
            spent = time.perf_counter() - self._begun
            self.parts[self._part] = self.parts.get(self._part, 0.0) + spent
        self._part = None

    def hear(self, progress: Progress) -> None:
        """Take the stages of a search for its parts."""
        if isinstance(progress, StageBegun):
            self.begin(progress.stage)

    def scale(self, factor: float) -> None:
        """Take what was timed for a sample of what counts."""
        self.parts = {part: factor * seconds for part, seconds in self.parts.items()}

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(self.parts.values())

    def as_json(self) -> dict[str, float]:
        """In milliseconds' precision."""
        rounded = {name: round(seconds, 3) for name, seconds in self.parts.items()}
        return {"total": round(self.total, 3), **rounded}


def compare(
    request: SearchRequest, count: int, loops: Sequence[str] = LOOPS, sample: int | None = None
) -> dict[str, Any]:
    """Seconds of all loops on `count` configurations, their ratios, and whether they agree.

    With a `sample`, plain loops score that many, their seconds are scaled, and the best ones.
    """
    problem = Problem.open(request, Outputs(request.output), join_processes(), lambda _: None)
    every = feasible(problem.spaces["component"], problem.budget)
    candidates = [every[n] for n in np.random.default_rng(SEED).permutation(len(every))[:count]]
    clocks = {name: Clock() for name in ("search", *loops)}
    found, ready, selection = _search(problem, candidates, clocks["search"])
    CONSOLE.print(f"search: {clocks['search'].total:.0f} s for {len(candidates)} configurations")
    scores = {"search": found}
    timed = candidates[:sample]  # drawn at random, as all are
    others = [each for each in selection.best(found) if each not in timed]
    for name in loops:
        prepared = name == PREPARED
        scores[name] = _plain(problem, ready, timed, clocks[name], prepared=prepared)
        if others:
            scores[name] |= _plain(problem, ready, others, Clock(), prepared=prepared)
        clocks[name].scale(len(candidates) / len(timed))
    best = {name: selection.best(each) for name, each in scores.items()}
    return {
        "task": request.task.name,
        "budget": problem.budget.describe(),
        "projection": request.projection,
        "precision": request.precision,
        "error": selection.error,
        "slice": len(problem.data.slice),
        "configurations": len(candidates),
        **({} if sample is None else {"configurations_of_plain_loops": len(timed)}),
        "given_up_early": sum(each.stopped for each in found.values()),
        "examples_scored": sum(each.examples for each in found.values()),
        "seconds": {name: clock.as_json() for name, clock in clocks.items()},
        "times_as_fast_as": {
            name: round(clocks[name].total / clocks["search"].total, 2) for name in loops
        },
        "same_best": all(each == best["search"] for each in best.values()),
        "best": {
            name: {each.name: scores[name][each].divergence for each in found}
            for name, found in best.items()
        },
    }


def _search(
    problem: Problem, candidates: Sequence[Candidate], clock: Clock
) -> tuple[Scores, Ready, Selection]:
    """As `Stage.per_component`, which has every candidate within the budget, without a journal."""
    ready = Ready.of(problem, clock.hear)
    stage = Stage(problem, ready, Known(), None, clock.hear)
    sensitivities = stage.sensitivities("component")
    drawn = set(candidates)
    ordered = [each for each in stage.promising() if each in drawn]
    scores = stage.scored(sensitivities, ordered)
    clock.end()
    return scores, ready, stage.selection("component")


def _plain(
    problem: Problem, ready: Ready, candidates: Sequence[Candidate], clock: Clock, *, prepared: bool
) -> Scores:
    """Every one by itself; activation scales and dense logits are those of the search, for free."""
    request, data, space = problem.request, problem.data, problem.spaces["component"]
    batches = list(data.slice.batches(EVALUATION_BATCH))
    weights, scores = ready.superset.variants, {}
    for candidate in track(candidates, PREPARED if prepared else PLAIN, console=CONSOLE):
        if not prepared:
            clock.begin("preparing the weights")
            alone = {name: (each,) for name, each in schemes_of(space, candidate).items()}
            weights = variants(
                problem.model, alone, request.recipe, data.calibration, request.projection
            )
        clock.begin("building")
        recipe = recipe_for(space, candidate, request.recipe)
        model = naive_model(problem.model, recipe, weights, ready.superset.activation_scales)
        clock.begin("scoring")
        scores[candidate] = _score(problem, ready, model, batches)
        clock.end()
    return scores


def _score(
    problem: Problem, ready: Ready, model: PreTrainedModel, batches: Sequence[Batch]
) -> Score:
    """All of the slice, as `compress` evaluates."""
    held, logits = problem.data.slice, np.empty_like(ready.reference)
    task, labels = held.dataset.task, held.dataset.labels
    runner = InTaskOrder(TorchRunner(model, tuple(held.padding)), problem.data.order, "PyTorch")
    bf16 = problem.request.precision == "bf16"
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for batch in batches:
            logits[batch.indices] = runner.run(batch.feeds)["logits"]
    divergence = float(divergences(task, ready.reference, logits).mean())
    metric = primary(task, score(task, predict(task, logits), labels))
    return Score(len(held), divergence, metric, stopped=False)


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
    parser.add_argument("--sample", type=int, metavar="N", help="of plain loops; default: all")
    parser.add_argument("--full", action="store_true", help="also time the whole search")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.sample is not None and arguments.sample < 1:
        parser.error(f"--sample: at least 1, not {arguments.sample}")
    if arguments.json and not arguments.json.parent.is_dir():
        parser.error(f"--json: no folder {arguments.json.parent}")
    with tempfile.TemporaryDirectory() as folder:
        request = SearchRequest(
            model=str(arguments.model),
            task=task_named(arguments.task),
            output=Path(folder) / "search",
            target=arguments.target,
            recipe=preset("deploy"),
            projection=arguments.projection,
            data_dir=arguments.data,
            precision=arguments.precision,
        )
        loops = tuple(dict.fromkeys(arguments.loops))
        result = compare(request, arguments.candidates, loops, arguments.sample)
        result["machine"] = f"{this_processor()}; {torch.get_num_threads()} threads"
        result["versions"] = {name: version(name) for name in ("torch", "transformers", "numpy")}
        if arguments.full:
            _tell(result, sys.stderr, arguments.json)  # whatever comes of what follows
            found = search_model(replace(request, per="component"))
            assert found is not None  # one process
            result["full"] = {"seconds": round(found.seconds, 1), **found.as_json()["stops"]}
    _tell(result, sys.stdout, arguments.json)
    if not result["same_best"]:
        raise SystemExit("the loops disagree about the best five")


def _tell(result: dict[str, Any], stream: TextIO, path: Path | None) -> None:
    text = json.dumps(result, indent=1)
    print(text, file=stream, flush=True)
    if path is not None:
        with atomic_file(path) as temporary:
            temporary.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
