"""Tiny task models and GLUE files, as a user of `nxmi-export compress` would have them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedModel

from nxmi_export.glue import Task, task_named
from tests.cli.command_lines import Outcome
from tests.tiny_models import tiny_model, toy_dataset, write_hugging_face

ROOT = Path(__file__).resolve().parents[3]
TRAIN, DEV = 48, 24  # examples
BATCH = 16
LAYERS = 12  # encoder linears of the tiny model

# Two epochs of three steps: the projection falls between them, the recovery into the second.
RECIPE = f"""
default: 2:4+int8
sparsity:
  recovery: 0.5
training:
  epochs: 2
  batch_size: {BATCH}
"""


@dataclass(frozen=True)
class Run:
    """What a finished run has left."""

    model: Path
    printed: str = ""  # to standard output

    @property
    def result(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._beside("json").read_text())
        return content

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._beside("jsonl").read_text().splitlines()]

    @property
    def plot(self) -> str:
        return self._beside("svg").read_text()

    def _beside(self, ending: str) -> Path:
        return self.model.with_name(f"{self.model.stem}.compress.{ending}")


def last_sentence(outcome: Outcome) -> str:
    """Why a run ended, after the lines of its epochs."""
    *epochs, end = outcome.err.splitlines()
    assert all(line.startswith(("dense model: ", "epoch ")) for line in epochs)
    assert end.startswith("error: ")
    return end.removeprefix("error: ")


def write_task(folder: Path, task: Task, *, train: int = TRAIN, dev: int = DEV) -> Path:
    """`folder`/TASK/{train,validation}.parquet of toy sentences; returns `folder`."""
    (folder / task.name).mkdir(parents=True)
    for number, (split, count) in enumerate({"train": train, "validation": dev}.items()):
        dataset = toy_dataset(count, task=task, seed=number)
        table = pa.table(
            {
                **dict(zip(task.text_columns, map(list, dataset.texts), strict=True)),
                "label": dataset.labels,
                "idx": dataset.ids,
            }
        )
        pq.write_table(table, folder / task.name / f"{split}.parquet")
    return folder


def write_dense(folder: Path, model: PreTrainedModel | None = None) -> Path:
    """A Hugging Face directory of a dense model for two classes; returns `folder`."""
    folder.mkdir(parents=True)
    return write_hugging_face(folder, model or tiny_model())


def write_recipe(path: Path, text: str = RECIPE) -> Path:
    path.write_text(text)
    return path


def sst2(folder: Path) -> Path:
    return write_task(folder, task_named("sst2"))


def in_a_process(
    *arguments: object,
    launcher: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`nxmi-export compress` in a process of its own, with these variables besides."""
    program = (*launcher, "-m", "nxmi_export", "compress")
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
