"""A task and a budget in, the configuration of each kind out, with its score before training."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nxmi_export.cli.search_display import live_display
from nxmi_export.compression.training.processes import join_processes
from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.recipe import Recipe
from nxmi_export.search.space import Candidate, recipe_for, schemes_of
from nxmi_export.workflow.search import SearchRequest, search_model
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.prepare import Problem, Ready
from samples.glue_table import cells as glue
from samples.glue_table.run import kept, recipe_of
from samples.search_table.cells import BUDGETS, TARGET, Budget

__all__ = ["Choice", "chosen"]

SEED = 0  # of the random configuration


@dataclass(frozen=True)
class Choice:
    """A configuration and what it scored on the slice, before any training."""

    recipe: Recipe
    divergence: float
    metric: float | None


def chosen(
    task: str, budget: Budget, *, model: Path, data: Path, folder: Path
) -> dict[str, Choice]:
    """By kind; searched once and kept in `folder`, where an interrupted search goes on.

    Training is that of `deploy` in the GLUE table. Exits where what is kept was chosen for another
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
        resume=True,
        overwrite=True,  # a search that ended before its choices were kept is read off its journal
    )
    problem = _problem(request)
    searched = {"searched": problem.fingerprint}
    found = kept(path, searched)
    if found is None:
        with live_display(shown=True, metric=request.task.primary_metric) as display:
            search_model(request, display.hear)
        kinds = _winners(Outputs(request.output)) | _compared(problem, budget)
        found = {**searched, "kinds": kinds}
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return {
        kind: Choice(
            Recipe.from_mapping(entry["recipe"], source=path), entry["divergence"], entry["metric"]
        )
        for kind, entry in found["kinds"].items()
    }


def _problem(request: SearchRequest) -> Problem:
    with tempfile.TemporaryDirectory() as folder:
        return Problem.open(request, Outputs(Path(folder)), join_processes(), lambda report: None)


def _winners(outputs: Outputs) -> dict[str, dict[str, Any]]:
    """The best of each of the two searches."""
    winners = json.loads(outputs.result.read_text(encoding="utf-8"))["winners"]
    return {
        origin: {
            "recipe": Recipe.from_yaml(outputs.folder / each["recipe"]).as_mapping(),
            "divergence": each["divergence"],
            "metric": each["metric"],
        }
        for origin, each in winners.items()
    }


def _compared(problem: Problem, budget: Budget) -> dict[str, dict[str, Any]]:
    """What the winners are compared with, scored as they were."""
    ready = Ready.of(problem, lambda report: None)
    space = problem.spaces["component"]

    def entry(candidate: Candidate) -> dict[str, Any]:
        score = ready.scorer.score(schemes_of(space, candidate))
        recipe = recipe_for(space, candidate, problem.request.recipe)
        return {
            "recipe": recipe.as_mapping(),
            "divergence": score.divergence,
            "metric": score.metric,
        }

    drawn = space.random(
        np.random.default_rng(SEED), lambda each: problem.budget.admits(space, each)
    )
    return {"uniform": entry(space.uniform(BUDGETS[budget])), "random": entry(drawn)}
