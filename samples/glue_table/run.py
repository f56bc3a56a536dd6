"""One cell in, its trained model and its result out."""

import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.checkpoint import read_tokenizer_files, write_checkpoint
from nxmi_export.compression import RunOptions, checkpoint_of, compress, fine_tune
from nxmi_export.compression.progress import EpochDone, Progress, StepDone
from nxmi_export.compression.training.options import Precision
from nxmi_export.encoding import EncodedDataset
from nxmi_export.glue import load_dataset, primary, task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.parity import run_rung
from nxmi_export.recipe import Recipe, TrainingSettings, preset
from samples.fine_tune import (
    DENSE,
    INPUTS,
    TrainingData,
    encoded,
    new_minilm,
    progress_bar,
    save,
    train_split,
)
from samples.glue_table.cells import ABLATIONS, Cell

__all__ = ["Place", "run_cell"]

HOLDOUT_SEED = 20_221  # of the slice of train on which settings are chosen
HOLDOUT_SHARE = 0.1
PRECISION: Precision = "bf16"
SNAPSHOT_SECONDS = 120.0


@dataclass(frozen=True)
class Place:
    """Where data is read and results go; with `holdout` the dev sets are not even read."""

    data: Path
    models: Path  # weights and snapshots, not kept in the repository
    results: Path  # one JSON file per cell
    holdout: bool = False
    changes: Mapping[str, Any] | None = None  # to the recipe or the dense settings, for choosing


def run_cell(cell: Cell, place: Place) -> dict[str, Any]:
    """Train the cell unless its result is there; an interrupted one goes on from its snapshot."""
    name = cell.name + _suffix(place)
    result_file = place.results / f"{name}.json"
    if result_file.exists():
        return json.loads(result_file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    train, test = _splits(cell, place)
    work = place.models / name
    options = RunOptions(
        seed=cell.seed,
        precision=PRECISION,
        snapshots=work / "snapshots",
        snapshot_seconds=SNAPSHOT_SECONDS,
        resume=True,
    )
    evaluate = _evaluator(test)
    history: list[dict[str, Any]] = []
    clock = _StepClock()
    began = time.perf_counter()
    with progress_bar(name) as show:

        def on_progress(event: Progress) -> None:
            show(event)
            clock(event)
            if isinstance(event, EpochDone):
                history.append(asdict(event))

        run = _Run(train, options, evaluate, on_progress, work)
        model, settings = _train(cell, place, run)
    scores = evaluate(model)
    result = {
        "cell": asdict(cell),
        "evaluated_on": "a held-out tenth of train" if place.holdout else "dev",
        "metric": primary(task_named(cell.task), scores),
        "scores": scores,
        "examples": {"train": len(train), "evaluated": len(test)},
        "settings": settings,
        "precision": PRECISION,
        "history": history,
        "seconds": round(time.perf_counter() - began, 1),
        "median_step_seconds": clock.median(),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")},
    }
    with atomic_file(result_file) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(work / "snapshots", ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Run:
    train: EncodedDataset
    options: RunOptions
    evaluate: Callable[[PreTrainedModel], dict[str, float]]
    on_progress: Callable[[Progress], None]
    work: Path


def _train(cell: Cell, place: Place, run: _Run) -> tuple[PreTrainedModel, dict[str, Any]]:
    if cell.is_dense:
        settings = TrainingSettings.model_validate(
            _merged(DENSE.model_dump(mode="json"), place.changes or {})
        )
        model = new_minilm(task_named(cell.task), cell.seed)
        fine_tune(
            model,
            run.train,
            settings,
            run.options,
            evaluate=run.evaluate,
            on_progress=run.on_progress,
        )
        if not (run.work / "dense").exists():
            save(model, run.work / "dense")
        return model, settings.model_dump(mode="json")
    dense = replace(cell, method="dense")
    plain = replace(place, changes=None)
    run_cell(dense, plain)
    source = place.models / (dense.name + _suffix(plain)) / "dense"
    model = AutoModelForSequenceClassification.from_pretrained(source, attn_implementation="eager")
    recipe = _recipe(cell, place)
    compress(
        model,
        run.train,
        recipe,
        run.options,
        evaluate=run.evaluate,
        on_progress=run.on_progress,
    )
    checkpoint = checkpoint_of(
        model,
        recipe=recipe,
        tokenizer=read_tokenizer_files(source),
        provenance={"task": cell.task, "seed": cell.seed, "precision": PRECISION},
    )
    run.work.mkdir(parents=True, exist_ok=True)
    write_checkpoint(run.work / "model.pt", checkpoint)
    return model, recipe.as_mapping()


def _recipe(cell: Cell, place: Place) -> Recipe:
    ablation = ABLATIONS.get(cell.method, {})
    base = preset("deploy" if ablation else cell.method).as_mapping()
    changed = _merged(_merged(base, ablation), place.changes or {})
    return Recipe.from_mapping(changed, source=cell.name)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if inner else value
    return merged


def _suffix(place: Place) -> str:
    """What tells runs for choosing settings from the table's own, and from each other."""
    parts = ["holdout"] if place.holdout else []
    parts += [f"{key}={value}" for key, value in _flat(place.changes or {})]
    return "".join(f"_{part}" for part in parts)


def _flat(changes: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in changes.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _splits(cell: Cell, place: Place) -> tuple[EncodedDataset, EncodedDataset]:
    train = train_split(TrainingData(cell.task, place.data, cell.limit))
    if not place.holdout:
        dev = load_dataset(task_named(cell.task), "validation", place.data)
        return encoded(train), encoded(dev)
    order = np.random.default_rng(HOLDOUT_SEED).permutation(len(train))
    count = int(len(train) * HOLDOUT_SHARE)
    return encoded(train.select(order[count:])), encoded(train.select(order[:count]))


def _evaluator(data: EncodedDataset) -> Callable[[PreTrainedModel], dict[str, float]]:
    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        with TorchRunner(model, INPUTS) as runner:
            return dict(run_rung(runner, data, batch_size=32).scores)

    return evaluate


class _StepClock:
    """Seconds between steps; the gaps that hold evaluations or snapshots do not move a median."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def __call__(self, event: Progress) -> None:
        if isinstance(event, StepDone):
            self._times.append(time.perf_counter())

    def median(self) -> float | None:
        """None where fewer than two steps were run (all came from a snapshot)."""
        return round(float(np.median(np.diff(self._times))), 4) if len(self._times) > 1 else None
