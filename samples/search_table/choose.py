"""A task and a budget in, the configuration of each kind out, with its score before training."""

import fcntl
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nxmi_export.cli.search_display import live_display
from nxmi_export.compression.training.processes import join_processes
from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.space import Candidate, SearchSpace, recipe_for, schemes_of
from nxmi_export.workflow.search import SearchRequest, search_model
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.prepare import Problem, Ready
from samples.cell_table import kept
from samples.fine_tune import PRECISION
from samples.glue_table import cells as glue
from samples.glue_table.run import recipe_of
from samples.search_table.cells import TARGET, TASKS, UNIFORM, Budget

__all__ = ["Choice", "chosen"]

SEED = 0  # of the random configurations, with the task and the budget


@dataclass(frozen=True)
class Choice:
    """A configuration and what it scored on the slice, before any training."""

    recipe: Recipe
    schemes: Mapping[str, str]  # by linear
    size: float  # share of float32, as the budget counts it
    divergence: float
    metric: float | None
    searched: str  # a hash of all that decided it


def chosen(
    task: str, budget: Budget, *, model: Path, data: Path, folder: Path
) -> dict[str, Choice]:
    """By kind; searched once and kept in `folder`, where an interrupted search goes on.

    Training, and the precision of both, are those of `deploy` in the GLUE table. One process
    searches at a time; others wait for its choices. Exits where what is kept was chosen for another
    model, other examples or another recipe.
    """
    path = folder / "choices.json"
    request = SearchRequest(
        model=str(model),
        task=task_named(task),
        output=folder / "search",
        recipe=recipe_of(glue.Cell(task, "deploy")),
        target=TARGET,
        metadata=budget == "metadata",
        data_dir=data,
        precision=PRECISION,
        resume=True,
        overwrite=True,  # a search that ended before its choices were kept is read off its journal
    )
    problem = _problem(request)
    decisive = _decisive(problem)
    with _alone(folder):
        found = kept(path, decisive)
        if found is None:
            with live_display(shown=True, metric=request.task.primary_metric) as display:
                search_model(request, display.hear)
            found = {**decisive, "kinds": _winners(problem) | _compared(problem, task, budget)}
            with atomic_file(path) as temporary:
                temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    searched = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return {
        kind: Choice(
            **{**entry, "recipe": Recipe.from_mapping(entry["recipe"], source=path)},
            searched=searched,
        )
        for kind, entry in found["kinds"].items()
    }


def _problem(request: SearchRequest) -> Problem:
    with tempfile.TemporaryDirectory() as folder:
        return Problem.open(request, Outputs(Path(folder)), join_processes(), lambda report: None)


def _decisive(problem: Problem) -> dict[str, str]:
    """What decides a choice; the number of threads moves scores by roundings at most."""
    return {name: each for name, each in problem.fingerprint.items() if name != "threads"}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is in here for the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _winners(problem: Problem) -> dict[str, dict[str, Any]]:
    """The best of each of the two searches."""
    outputs = Outputs(problem.request.output)
    winners = json.loads(outputs.result.read_text(encoding="utf-8"))["winners"]
    found = {}
    for origin, each in winners.items():
        space = problem.spaces[origin]
        candidate = Candidate(tuple(each["schemes"][group.name] for group in space.groups))
        found[origin] = _entry(problem, space, candidate, each["divergence"], each["metric"])
    return found


def _compared(problem: Problem, task: str, budget: Budget) -> dict[str, dict[str, Any]]:
    """What the winners are compared with, scored as they were."""
    scorer = Ready.of(problem, lambda report: None).scorer
    space = problem.spaces["component"]
    rng = np.random.default_rng([SEED, TASKS.index(task), list(UNIFORM).index(budget)])
    candidates: dict[str, Candidate] = {
        **{kind: space.uniform(Scheme.parse(kind)) for kind in UNIFORM[budget]},
        "random": space.random(rng, lambda each: problem.budget.admits(space, each)),
    }
    found = {}
    for kind, candidate in candidates.items():
        score = scorer.score(schemes_of(space, candidate))
        found[kind] = _entry(problem, space, candidate, score.divergence, score.metric)
    return found


def _entry(
    problem: Problem,
    space: SearchSpace,
    candidate: Candidate,
    divergence: float,
    metric: float | None,
) -> dict[str, Any]:
    size = problem.budget.size
    assert size is not None
    return {
        "recipe": recipe_for(space, candidate, problem.request.recipe).as_mapping(),
        "schemes": {name: str(each) for name, each in schemes_of(space, candidate).items()},
        "size": size.of(space, candidate),
        "divergence": divergence,
        "metric": metric,
    }
