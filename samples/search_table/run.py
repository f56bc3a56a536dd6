"""One cell in, its trained model and its result out; settings are those of the GLUE table."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nxmi_export.checkpoint import checkpoint_sha256
from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.processor import this_processor
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.compress import CompressRequest, compress_model
from samples.cell_table import kept, read_result
from samples.fine_tune import PRECISION, progress_bar
from samples.glue_table import cells as glue
from samples.glue_table.run import (
    SNAPSHOT_SECONDS,
    Place,
    check_dense,
    commit,
    recipe_of,
    run_cell,
    trained_dense,
)
from samples.search_table.cells import Cell, cells
from samples.search_table.choose import Choice, chosen

__all__ = ["run"]

# Of a recipe, what the search decides.
_SCHEMES = ("default", "schemes", "overrides")
# What a cell says of its training, and one of the GLUE table too.
TAKEN = (
    *("metric", "retention", "scores", "dense_sha256", "compression", "seconds"),
    *("versions", "threads", "machine", "commit"),
)
IN_GLUE_TABLE = ("deploy", "w4")  # methods there that are one scheme everywhere


def run(cell: Cell, place: Place, results: Path) -> dict[str, Any]:
    """Search and train the cell unless its result is there; what was interrupted goes on.

    `place` is that of the GLUE table, whose dense models are what is searched and compressed. What
    was trained by the same recipe from the same weights, here or there, is not trained again, and
    `taken_from` names it. Exits where something that is kept was made with other settings.
    """
    path, asked = results / f"{cell.name}.json", _asked(cell)
    found = kept(path, asked)
    if found is None:
        found = {"cell": asdict(cell), **asked, **_trained(cell, place, results)}
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _asked(cell: Cell) -> dict[str, Any]:
    """What decides a cell's result, but for what the search finds."""
    return {"settings": _without_schemes(recipe_of(_deploy(cell))), "precision": PRECISION}


def _deploy(cell: Cell) -> glue.Cell:
    return glue.Cell(cell.task, "deploy")


def _without_schemes(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.as_mapping().items() if key not in _SCHEMES}


def _trained(cell: Cell, place: Place, results: Path) -> dict[str, Any]:
    dense = trained_dense(glue.Cell(cell.task, glue.DENSE), place)
    folder = place.models / f"search_{cell.task}_{cell.budget}"
    choice = chosen(cell.task, cell.budget, model=dense, data=place.data, folder=folder)[cell.kind]
    return {
        "searched": choice.searched,
        "zero_shot": {"divergence": choice.divergence, "metric": choice.metric},
        "size": choice.size,
        "schemes": dict(choice.schemes),
        "recipe": choice.recipe.as_mapping(),
        **_taken_or_compressed(cell, place, dense, choice, results),
    }


def _taken_or_compressed(
    cell: Cell, place: Place, dense: Path, choice: Choice, results: Path
) -> dict[str, Any]:
    """The result of the same training where another cell has one, else of one run here."""
    own = checkpoint_sha256(dense)
    for name, found in _same_training(cell, place, choice, results):
        if found["dense_sha256"] == own:
            taken = {key: found[key] for key in (*TAKEN, "seed")}
            return {"taken_from": found.get("taken_from", name), **taken}
    request = _request(cell, place, dense, choice)
    facts = _compressed(request)
    return {
        "metric": facts["metrics"]["compressed"]["primary"],
        "retention": facts["metrics"]["retention"],
        "scores": facts["metrics"],
        "dense_sha256": facts["source"]["sha256"],
        "compression": facts["compression"],
        "seed": request.seed,
        "versions": facts["versions"],
        "seconds": facts["seconds"],
        "threads": torch.get_num_threads(),
        "machine": str(this_processor()),
        "commit": commit(),
    }


def _same_training(
    cell: Cell, place: Place, choice: Choice, results: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cells of the task with the choice's schemes, by name; those of the GLUE table run there."""
    for method in IN_GLUE_TABLE:
        same = glue.Cell(cell.task, method)
        if _is_uniform(choice, recipe_of(same)):
            yield same.name, {**run_cell(same, place), "seed": same.seed}
    for other in (each for each in cells() if each.task == cell.task):
        found = read_result(other.name, results)
        wanted = {**_asked(cell), "schemes": dict(choice.schemes)}
        if found is not None and all(found[key] == value for key, value in wanted.items()):
            yield other.name, found


def _is_uniform(choice: Choice, recipe: Recipe) -> bool:
    """Whether `choice` is what `recipe` is, which gives every linear its default."""
    same = _without_schemes(choice.recipe) == _without_schemes(recipe)
    return same and set(choice.schemes.values()) == {str(recipe.default)}


def _compressed(request: CompressRequest) -> dict[str, Any]:
    """The account of the run; one that is there must be of the same recipe and dense model."""
    path = request.output.with_name(f"{request.output.stem}.compress.json")
    found = kept(path, {"recipe": request.recipe.as_mapping()})
    if found is None:
        with progress_bar(request.recipe_name) as on_progress:
            compress_model(request, on_progress)
        found = json.loads(path.read_text(encoding="utf-8"))
    check_dense(found, Path(request.model), path)
    return found


def _request(cell: Cell, place: Place, dense: Path, choice: Choice) -> CompressRequest:
    return CompressRequest(
        model=str(dense),
        task=task_named(cell.task),
        output=place.models / f"search_{cell.task}_{cell.budget}" / f"{cell.kind}.pt",
        recipe=choice.recipe,
        recipe_name=cell.name,
        data_dir=place.data,
        precision=PRECISION,
        snapshot_seconds=SNAPSHOT_SECONDS,
        resume=True,
    )
