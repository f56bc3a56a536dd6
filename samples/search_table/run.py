"""One cell in, its trained model and its result out; settings are those of the GLUE table."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

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
    trained_dense,
)
from samples.search_table.cells import SEARCHED, Cell, cells, kinds
from samples.search_table.choose import Configuration, Search, alone

__all__ = ["choices_of", "run", "train_ahead"]

# Of a recipe, what the search decides.
_SCHEMES = ("default", "schemes", "overrides")
# What a cell says of its training.
_TRAINING = (
    *("metric", "retention", "scores", "dense_sha256", "compression", "seed"),
    *("versions", "seconds", "threads", "machine", "commit"),
)


@dataclass(frozen=True)
class _Begun:
    """A cell that has its dense model, and the search for its task and budget."""

    cell: Cell
    place: Place
    results: Path
    dense: Path
    search: Search

    @classmethod
    def of(cls, cell: Cell, place: Place, results: Path) -> Self:
        """Train the dense model where there is none; exits where other results forbid the cell."""
        with alone(place.models / f"dense_{cell.task}"):
            dense = trained_dense(glue.Cell(cell.task, glue.DENSE), place)
        search = Search(
            cell.task,
            cell.budget,
            model=dense,
            data=place.data,
            folder=_folder(cell, place),
            choices=choices_of(cell, results),
        )
        searched = search.check()
        for kind in kinds(cell.budget):
            beside = replace(cell, kind=kind).name
            found = read_result(beside, results)
            if found is not None and found["searched"] != searched:
                raise SystemExit(
                    f"{results / beside}.json: chosen by another search than {cell.name} would be "
                    "here: other dense weights, precision or code; go on where that was, or "
                    f"delete all results of {cell.task}, {cell.budget}, to begin again"
                )
        return cls(cell, place, results, dense, search)


def run(cell: Cell, place: Place, results: Path) -> dict[str, Any]:
    """Search and train the cell unless its result is there; what was interrupted goes on.

    `place` is where the dense models are trained, as those of the GLUE table are. What was trained
    by the same recipe from the same weights is not trained again, and `taken_from` names it. Exits
    where something that is kept was made with other settings.
    """
    found = _result(cell, results)
    if found is None:
        begun = _Begun.of(cell, place, results)
        found = {"cell": asdict(cell), **_asked(cell), "precision": PRECISION, **_trained(begun)}
        with atomic_file(results / f"{cell.name}.json") as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def train_ahead(cell: Cell, place: Place, results: Path) -> None:
    """Train a cell that needs no search, as another process may search meanwhile.

    Its result waits for the search, which scores it as it was before training.
    """
    if cell.kind not in SEARCHED and _result(cell, results) is None:
        begun = _Begun.of(cell, place, results)
        _taken_or_trained(begun, begun.search.compared()[cell.kind])


def choices_of(cell: Cell, results: Path) -> Path:
    """Where it is kept what each kind of the cell's task and budget is."""
    return results / "choices" / f"{cell.task}_{cell.budget}.json"


def _result(cell: Cell, results: Path) -> dict[str, Any] | None:
    return kept(results / f"{cell.name}.json", _asked(cell))


def _asked(cell: Cell) -> dict[str, Any]:
    """What decides a cell's result, but for what the search finds, and the precision of both."""
    return {"settings": _without_schemes(recipe_of(glue.Cell(cell.task, "deploy")))}


def _without_schemes(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.as_mapping().items() if key not in _SCHEMES}


def _trained(begun: _Begun) -> dict[str, Any]:
    choice = begun.search.chosen()[begun.cell.kind]
    return {
        "searched": choice.searched,
        "zero_shot": {"divergence": choice.divergence, "metric": choice.metric},
        "size": choice.configuration.size,
        "schemes": dict(choice.configuration.schemes),
        "recipe": choice.configuration.recipe.as_mapping(),
        **_taken_or_trained(begun, choice.configuration),
    }


def _taken_or_trained(begun: _Begun, wanted: Configuration) -> dict[str, Any]:
    """What another cell says of the same training, else what comes of one run here, once."""
    task = begun.cell.task
    same = {
        **_asked(begun.cell),
        "precision": PRECISION,
        "schemes": dict(wanted.schemes),
        "dense_sha256": checkpoint_sha256(begun.dense),
    }
    for other in (each for each in cells() if each.task == task):
        found = read_result(other.name, begun.results)
        if found is not None and all(found[key] == value for key, value in same.items()):
            origin = found.get("taken_from", other.name)
            return {"taken_from": origin, **{key: found[key] for key in _TRAINING}}
    return _training(_request(begun.cell, begun.place, begun.dense, wanted))


def _training(request: CompressRequest) -> dict[str, Any]:
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


def _compressed(request: CompressRequest) -> dict[str, Any]:
    """The account of the run; one that is there must be of the same recipe and dense model."""
    path = request.output.with_name(f"{request.output.stem}.compress.json")
    found = kept(path, {"recipe": request.recipe.as_mapping()})
    if found is None:
        path.parent.mkdir(parents=True, exist_ok=True)  # one trained ahead of its search is first
        with progress_bar(request.recipe_name) as on_progress:
            compress_model(request, on_progress)
        found = json.loads(path.read_text(encoding="utf-8"))
    check_dense(found, Path(request.model), path)
    return found


def _folder(cell: Cell, place: Place) -> Path:
    return place.models / f"search_{cell.task}_{cell.budget}"


def _request(cell: Cell, place: Place, dense: Path, wanted: Configuration) -> CompressRequest:
    return CompressRequest(
        model=str(dense),
        task=task_named(cell.task),
        output=_folder(cell, place) / f"{cell.kind}.pt",
        recipe=wanted.recipe,
        recipe_name=cell.name,
        data_dir=place.data,
        precision=PRECISION,
        snapshot_seconds=SNAPSHOT_SECONDS,
        resume=True,
    )
