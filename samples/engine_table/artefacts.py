"""A model and a placement in, the artefact that is built out; made by the package's own commands.

Each command is a process of its own, so that nothing of it is left in memory when engines are
measured. What is there already is kept.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from nxmi_export.artefact import Artefact, read_artefact
from nxmi_export.recipe import preset
from samples.engine_table.cells import Cell

__all__ = ["Place", "artefact_of"]

TASK = "mrpc"
EPOCHS = "1"  # the engine depends on shapes and scales, hardly on how good the model is


@dataclass(frozen=True)
class Place:
    """Where models are kept, and where GLUE is."""

    models: Path
    data: Path | None  # None: only what needs no data can be made


def artefact_of(cell: Cell, place: Place) -> Artefact:
    """The artefact of the cell's model and placement, made first where it is not there."""
    stem = place.models / f"{cell.model}-{cell.placement}"
    directory = stem.with_suffix(".artefact")
    if not directory.exists():
        model = stem.with_suffix(".pt")
        if not model.exists():
            model.parent.mkdir(parents=True, exist_ok=True)
            _make(cell, place, model)
        _run("nxmi_export", "export", model, "--fp16", "-o", directory)
    return read_artefact(directory)


def _make(cell: Cell, place: Place, model: Path) -> None:
    if cell.model == "bert-base":
        _run("samples.random_bert", "--placement", cell.placement, "-o", model)
        return
    if place.data is None:
        raise SystemExit(f"{cell.name}: --data is needed to make {model}")
    data = ("--task", TASK, "--data", place.data)
    dense = place.models / "minilm-dense"
    if not dense.exists():
        _run("samples.fine_tune", *data, "--epochs", EPOCHS, "-o", dense)
    recipe = model.with_suffix(".yaml")
    settings = preset("ptq").as_mapping() | {"placement": cell.placement}
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
    _run("nxmi_export", "compress", dense, *data, "--recipe", recipe, "-o", model)


def _run(module: str, *arguments: object) -> None:
    # Its figures go to standard error, since the table is what this program prints.
    command = [sys.executable, "-m", module, *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)
