"""One cell in, its trained model and its result out."""

import json
import shutil
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from nxmi_export.checkpoint import checkpoint_sha256, read_checkpoint
from nxmi_export.compression import RunOptions, fine_tune, restore
from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.processor import this_processor
from nxmi_export.recipe import Recipe, TrainingSettings, preset
from nxmi_export.workflow.compress import CompressRequest, compress_model
from nxmi_export.workflow.compress.data import TaskData
from samples.cell_table import kept
from samples.fine_tune import DENSE, PRECISION, new_minilm, progress_bar, save
from samples.glue_table.cells import ABLATED_METHOD, ABLATIONS, CONTROLS, EPOCHS, Cell

__all__ = ["Place", "check_dense", "commit", "recipe_of", "run_cell", "trained_dense"]

SNAPSHOT_SECONDS = 120.0
MADE_AS = "made_as.json"  # in every cell's folder: its settings
HOLDOUT = 0.1  # of train, for choosing settings


@dataclass(frozen=True)
class Place:
    """Where data is read and results go; on "holdout" the dev sets are not even read."""

    data: Path
    models: Path  # weights and snapshots, not kept in the repository
    results: Path  # one JSON file per cell
    evaluate_on: Literal["dev", "holdout"] = "dev"
    changes: Mapping[str, Any] | None = None  # to the recipe or the dense settings, for choosing

    def name_of(self, cell: Cell) -> str:
        """What tells a cell's files from those of other cells, splits and settings."""
        parts = [cell.name] + (["holdout"] if self.evaluate_on == "holdout" else [])
        return "_".join(parts + [f"{key}={value}" for key, value in _flat(self.changes or {})])

    def folder_of(self, cell: Cell) -> Path:
        """Where its weights are."""
        return self.models / self.name_of(cell)

    def result_of(self, cell: Cell) -> Path:
        """Where its result is, once it was run."""
        return self.results / f"{self.name_of(cell)}.json"


def run_cell(cell: Cell, place: Place) -> dict[str, Any]:
    """Train the cell unless its result is there; an interrupted one goes on from its snapshot.

    Exits where a result is there that was made with other settings than those of today, or in
    another precision than this machine's.
    """
    path, asked = place.result_of(cell), _asked(cell, place)
    found = kept(path, asked)
    if found is not None:
        return found
    run = _run_dense if cell.is_dense else _run_compressed
    result = {
        "cell": asdict(cell),
        "evaluated_on": place.evaluate_on,
        **asked,
        **run(cell, place),
        "threads": torch.get_num_threads(),
        "machine": str(this_processor()),
        "commit": commit(),
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")},
    }
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def recipe_of(cell: Cell) -> Recipe:
    """What a cell that is not dense is compressed by."""
    mapping = _settings(cell, Place(Path(), Path(), Path()))
    return Recipe.from_mapping(mapping, source=cell.name)


def _asked(cell: Cell, place: Place) -> dict[str, Any]:
    """What decides a cell's result and is written into it."""
    asked = {"settings": _settings(cell, place), "precision": PRECISION}
    if cell.is_dense and cell.begins_on is not None:
        asked["begun_on"] = asdict(cell.begins_on)
    return asked


def _own_folder(cell: Cell, place: Place) -> Path:
    """The cell's folder, empty unless what is in it was made as is asked for today."""
    folder, asked = place.folder_of(cell), _asked(cell, place)
    if not _is_of(folder, asked):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with atomic_file(folder / MADE_AS) as temporary:
            temporary.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    return folder


def _is_of(folder: Path, asked: Mapping[str, Any]) -> bool:
    path = folder / MADE_AS
    return path.exists() and json.loads(path.read_text(encoding="utf-8")) == asked


def _run_dense(cell: Cell, place: Place) -> dict[str, Any]:
    folder = _own_folder(cell, place)
    if not (folder / "initial").exists():
        save(_initial(cell, place), folder / "initial")
    source = read_checkpoint(str(folder / "initial"))
    data = TaskData.load(_request(cell, place, folder / "initial", Recipe()), source)
    model = restore(source)
    options = RunOptions(
        seed=cell.seed,
        precision=PRECISION,
        snapshots=folder / "snapshots",
        snapshot_seconds=SNAPSHOT_SECONDS,
        resume=True,
    )
    settings = TrainingSettings.model_validate(_settings(cell, place))
    with progress_bar(cell.name) as on_progress:
        fine_tune(model, data.train, settings, options, on_progress=on_progress)
    shutil.rmtree(folder / "dense", ignore_errors=True)
    save(model, folder / "dense")
    shutil.rmtree(folder / "snapshots", ignore_errors=True)
    scores = data.evaluate(model)
    return {
        "metric": statistics.fmean(scores.values()),  # GLUE's one number, MNLI's two splits too
        "scores": scores,
        "data": _without_places(data.as_json()),
    }


def _initial(cell: Cell, place: Place) -> PreTrainedModel:
    model = new_minilm(task_named(cell.task), cell.seed)
    if cell.begins_on is not None:
        whole = replace(place, evaluate_on="dev")  # its train set shares nothing with this task's
        before = restore(read_checkpoint(str(trained_dense(cell.begins_on, whole))))
        model.base_model.load_state_dict(before.base_model.state_dict())
    return model


def trained_dense(dense: Cell, place: Place) -> Path:
    """The folder of a dense model, which is trained where there is none.

    Exits where its result is there and was made otherwise: it would stand beside models that
    this one's weights were not the beginning of.
    """
    unchanged = replace(place, changes=None)
    folder, result = unchanged.folder_of(dense) / "dense", unchanged.result_of(dense)
    kept(result, _asked(dense, unchanged))
    if not folder.exists() or not _is_of(unchanged.folder_of(dense), _asked(dense, unchanged)):
        # Its result alone does not help: weights are not kept in the repository.
        result.unlink(missing_ok=True)
        run_cell(dense, unchanged)
    return folder


def _run_compressed(cell: Cell, place: Place) -> dict[str, Any]:
    source = trained_dense(replace(cell, method="dense"), place)
    _own_folder(cell, place)
    request = _request(cell, place, source, Recipe.model_validate(_settings(cell, place)))
    account = request.output.with_name("model.compress.json")
    if not account.exists():
        with progress_bar(place.name_of(cell)) as on_progress:
            compress_model(request, on_progress)
    facts = json.loads(account.read_text(encoding="utf-8"))
    check_dense(facts, source, account)
    log = request.output.with_name("model.compress.jsonl")
    metrics = facts["metrics"]
    return {
        "metric": metrics["compressed"]["primary"],
        "retention": metrics["retention"],
        "scores": metrics,
        "dense_sha256": facts["source"]["sha256"],
        "compression": facts["compression"],
        "mask_moved": facts["mask_moved"],
        "epochs": facts["epochs"],
        "data": _without_places(facts["data"]),
        "seconds": facts["seconds"],
        "median_step_seconds": _median_step(log) if log.exists() else None,
    }


def check_dense(facts: Mapping[str, Any], source: Path, account: Path) -> None:
    """Exit where `facts`, read from `account`, are not of a compression of `source`."""
    if facts["source"]["sha256"] != checkpoint_sha256(source):
        raise SystemExit(
            f"{account}: compressed from another dense model than {source}; "
            "delete it to run the cell again"
        )


def _request(cell: Cell, place: Place, model: Path, recipe: Recipe) -> CompressRequest:
    return CompressRequest(
        model=str(model),
        task=task_named(cell.task),
        output=place.folder_of(cell) / "model.pt",
        recipe=recipe,
        recipe_name=cell.method,
        data_dir=place.data,
        seed=cell.seed,
        limit=cell.limit,
        precision=PRECISION,
        evaluate_on=place.evaluate_on,
        holdout=HOLDOUT,
        snapshot_seconds=SNAPSHOT_SECONDS,
        resume=True,
    )


def _settings(cell: Cell, place: Place) -> dict[str, Any]:
    """The resolved recipe of a cell, or the training settings of a dense one."""
    changes = place.changes or {}
    if cell.is_dense:
        merged = _merged(DENSE.model_dump(mode="json"), changes)
        return TrainingSettings.model_validate(merged).model_dump(mode="json")
    variants = {name: (ABLATED_METHOD, changed) for name, changed in ABLATIONS.items()} | CONTROLS
    base, changed = variants.get(cell.method, (cell.method, {}))
    merged = preset(base).as_mapping()
    for more in ({"training": {"epochs": EPOCHS[cell.task]}}, changed, changes):
        merged = _merged(merged, more)
    recipe = Recipe.from_mapping(merged, source=cell.name)
    return recipe.as_mapping()


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if inner else value
    return merged


def _flat(changes: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in changes.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _without_places(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same digests without the folders of the machine they were read on."""
    return {
        "train": data["train"] | {"source": Path(data["train"]["source"]).name},
        "reported": [each | {"source": Path(each["source"]).name} for each in data["reported"]],
    }


def _median_step(log: Path) -> float | None:
    """Seconds from one step to the next; what lies between two epochs does not move a median."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    times = [entry["seconds"] for entry in entries if entry["event"] == "step"]
    gaps = [after - before for before, after in pairwise(times)]
    return round(statistics.median(gaps), 4) if gaps else None


def commit() -> str | None:
    """The commit of the code, marked where the tree has changes; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None
