"""A task and a budget in, the configuration of each kind out, with its score before training."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nxmi_export.compression.training.processes import join_processes
from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.recipe import Recipe, preset
from nxmi_export.search.space import Candidate, recipe_for, schemes_of
from nxmi_export.workflow.search import SearchRequest, search_model
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.prepare import Problem, Ready
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
    """By kind; searched once and kept in `folder`, where an interrupted search goes on."""
    kept = folder / "choices.json"
    request = SearchRequest(
        model=str(model),
        task=task_named(task),
        output=folder / "search",
        recipe=preset("deploy"),
        target=TARGET,
        metadata=budget == "metadata",
        data_dir=data,
        resume=True,
    )
    if not kept.exists():
        outputs = Outputs(request.output)
        if not outputs.result.exists():
            search_model(request)
        found = _winners(outputs) | _compared(request, budget)
        with atomic_file(kept) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    entries: dict[str, dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
    return {
        kind: Choice(
            Recipe.from_mapping(entry["recipe"], source=kept), entry["divergence"], entry["metric"]
        )
        for kind, entry in entries.items()
    }


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


def _compared(request: SearchRequest, budget: Budget) -> dict[str, dict[str, Any]]:
    """What the winners are compared with, scored as they were."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = Outputs(Path(folder))
        problem = Problem.open(request, outputs, join_processes(), lambda report: None)
        ready = Ready.of(problem, lambda report: None)
    space = problem.spaces["component"]

    def entry(candidate: Candidate) -> dict[str, Any]:
        score = ready.scorer.score(schemes_of(space, candidate))
        recipe = recipe_for(space, candidate, request.recipe)
        return {
            "recipe": recipe.as_mapping(),
            "divergence": score.divergence,
            "metric": score.metric,
        }

    drawn = space.random(
        np.random.default_rng(SEED), lambda each: problem.budget.admits(space, each)
    )
    return {"uniform": entry(space.uniform(BUDGETS[budget])), "random": entry(drawn)}
