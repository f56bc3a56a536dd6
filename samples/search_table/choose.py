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
import torch

from nxmi_export.cli.search_display import live_display
from nxmi_export.compression.training.processes import join_processes
from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.processor import this_processor
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.space import Candidate, SearchSpace, recipe_for, schemes_of
from nxmi_export.workflow.search import SearchRequest, search_model
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.prepare import Problem, Ready
from samples.cell_table import kept
from samples.fine_tune import CONSOLE, PRECISION
from samples.glue_table import cells as glue
from samples.glue_table.run import recipe_of
from samples.search_table.cells import TARGET, TASKS, UNIFORM, Budget

__all__ = ["Choice", "Configuration", "Search", "alone"]

SEED = 0  # of the random configurations, with the task and the budget


@dataclass(frozen=True)
class Configuration:
    """What is to be trained."""

    recipe: Recipe
    schemes: Mapping[str, str]  # by linear
    size: float  # share of float32, as the budget counts it


@dataclass(frozen=True)
class Choice:
    """A configuration and what it scored on the slice, before any training."""

    configuration: Configuration
    divergence: float
    metric: float | None
    searched: str  # a hash of all that decided it


@dataclass(frozen=True)
class Search:
    """For one task and budget, the configuration of each kind.

    Training, and the precision of both, are those of `deploy` in the GLUE table.
    """

    task: str
    budget: Budget
    model: Path
    data: Path
    folder: Path  # of the search, where an interrupted one goes on
    choices: Path  # the file that keeps what came of it

    def compared(self) -> dict[str, Configuration]:
        """What the searched ones are compared with, which needs no search."""
        problem = self._problem()
        space = problem.spaces["component"]
        candidates = self._compared(problem)
        return {kind: _configuration(problem, space, each) for kind, each in candidates.items()}

    def chosen(self) -> dict[str, Choice]:
        """Every kind, searched once and kept.

        One process searches at a time; others wait for its choices. Exits where what is kept was
        chosen for another model, other examples or another recipe.
        """
        problem = self._problem()
        decisive = _decisive(problem)
        with alone(self.folder):
            found = self._kept(decisive)
            if found is None:
                found = {
                    **decisive,
                    "kinds": self._searched(problem) | self._scored(problem),
                    "threads": torch.get_num_threads(),
                    "machine": str(this_processor()),
                }
                self.choices.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(self.choices) as temporary:
                    temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        searched = _hashed(decisive)
        return {
            kind: Choice(
                Configuration(
                    Recipe.from_mapping(entry["recipe"], source=self.choices),
                    entry["schemes"],
                    entry["size"],
                ),
                entry["divergence"],
                entry["metric"],
                searched,
            )
            for kind, entry in found["kinds"].items()
        }

    def check(self) -> str:
        """The hash that tells this search from others; exits where another one's choices are kept.

        What is trained before its search is known to be of this one.
        """
        decisive = _decisive(self._problem())
        self._kept(decisive)
        return _hashed(decisive)

    def _kept(self, decisive: Mapping[str, str]) -> dict[str, Any] | None:
        own = f"{self.task}, {self.budget}"
        remedy = f"go on where that was, or delete it and all results of {own}, to begin again"
        return kept(self.choices, decisive, remedy)

    def _problem(self) -> Problem:
        request = SearchRequest(
            model=str(self.model),
            task=task_named(self.task),
            output=self.folder / "search",
            recipe=recipe_of(glue.Cell(self.task, "deploy")),
            target=TARGET,
            metadata=self.budget == "metadata",
            data_dir=self.data,
            precision=PRECISION,
            resume=True,
            overwrite=True,  # one that ended before its choices were kept is read off its journal
        )
        with tempfile.TemporaryDirectory() as folder:
            outputs = Outputs(Path(folder))
            return Problem.open(request, outputs, join_processes(), lambda report: None)

    def _compared(self, problem: Problem) -> dict[str, Candidate]:
        space = problem.spaces["component"]
        place = [SEED, TASKS.index(self.task), list(UNIFORM).index(self.budget)]
        rng = np.random.default_rng(place)
        return {
            **{kind: space.uniform(Scheme.parse(kind)) for kind in UNIFORM[self.budget]},
            "random": space.random(rng, lambda each: problem.budget.admits(space, each)),
        }

    def _scored(self, problem: Problem) -> dict[str, dict[str, Any]]:
        """What the winners are compared with, scored as they were."""
        scorer = Ready.of(problem, lambda report: None).scorer
        space = problem.spaces["component"]
        found = {}
        for kind, candidate in self._compared(problem).items():
            score = scorer.score(schemes_of(space, candidate))
            found[kind] = _entry(problem, space, candidate, score.divergence, score.metric)
        return found

    def _searched(self, problem: Problem) -> dict[str, dict[str, Any]]:
        """The best of each of the two searches."""
        request = problem.request
        with live_display(shown=True, metric=request.task.primary_metric) as display:
            search_model(request, display.hear)
        outputs = Outputs(request.output)
        winners = json.loads(outputs.result.read_text(encoding="utf-8"))["winners"]
        found = {}
        for origin, each in winners.items():
            space = problem.spaces[origin]
            candidate = Candidate(tuple(each["schemes"][group.name] for group in space.groups))
            found[origin] = _entry(problem, space, candidate, each["divergence"], each["metric"])
        return found


def _decisive(problem: Problem) -> dict[str, str]:
    """What decides a choice; the number of threads moves scores by roundings at most."""
    return {name: each for name, each in problem.fingerprint.items() if name != "threads"}


def _hashed(decisive: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is in here for the same folder, and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            CONSOLE.print(f"{folder}: waiting for another process that is at work there")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _entry(
    problem: Problem,
    space: SearchSpace,
    candidate: Candidate,
    divergence: float,
    metric: float | None,
) -> dict[str, Any]:
    configuration = _configuration(problem, space, candidate)
    return {
        "recipe": configuration.recipe.as_mapping(),
        "schemes": dict(configuration.schemes),
        "size": configuration.size,
        "divergence": divergence,
        "metric": metric,
    }


def _configuration(problem: Problem, space: SearchSpace, candidate: Candidate) -> Configuration:
    size = problem.budget.size
    assert size is not None
    return Configuration(
        recipe_for(space, candidate, problem.request.recipe),
        {name: str(each) for name, each in schemes_of(space, candidate).items()},
        size.of(space, candidate),
    )
