"""One cell in, its trained model and its result out; settings are those of the GLUE table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.workflow.compress import CompressRequest, compress_model
from samples.fine_tune import PRECISION, progress_bar
from samples.glue_table import cells as glue
from samples.glue_table.run import SNAPSHOT_SECONDS, Place, run_cell
from samples.search_table.cells import Cell
from samples.search_table.choose import Choice, chosen

__all__ = ["run"]


def run(cell: Cell, place: Place, results: Path) -> dict[str, Any]:
    """Search and train the cell unless its result is there; what was interrupted goes on.

    `place` is that of the GLUE table, whose dense models are what is searched and compressed.
    """
    path = results / f"{cell.name}.json"
    if not path.exists():
        result = _trained(cell, place)
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _trained(cell: Cell, place: Place) -> dict[str, Any]:
    dense = _dense(cell.task, place)
    folder = place.models / f"search_{cell.task}_{cell.budget}"
    choice = chosen(cell.task, cell.budget, model=dense, data=place.data, folder=folder)[cell.kind]
    request = _request(cell, place, dense, choice)
    account = request.output.with_name(f"{cell.kind}.compress.json")
    if not account.exists():
        with progress_bar(cell.name) as on_progress:
            compress_model(request, on_progress)
    facts = json.loads(account.read_text(encoding="utf-8"))
    return {
        "cell": asdict(cell),
        "zero_shot": {"divergence": choice.divergence, "metric": choice.metric},
        "metric": facts["metrics"]["compressed"]["primary"],
        "retention": facts["metrics"]["retention"],
        "scores": facts["metrics"],
        "compression": facts["compression"],
        "recipe": choice.recipe.as_mapping(),
        "seed": request.seed,
        "precision": PRECISION,
        "versions": facts["versions"],
        "seconds": facts["seconds"],
    }


def _dense(task: str, place: Place) -> Path:
    """The dense model of the GLUE table, trained first where its weights are not here."""
    cell = glue.Cell(task, glue.DENSE)
    folder = place.folder_of(cell) / "dense"
    if not folder.exists():
        # Its result alone does not help: weights are not kept in the repository.
        place.result_of(cell).unlink(missing_ok=True)
        run_cell(cell, place)
    return folder


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
