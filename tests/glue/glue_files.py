"""Writes the files that GLUE comes in, independently of the readers: `tasks.py` is not consulted
for how a TSV file looks.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from nxmi_export.glue import Task

# What a reader that splits lines too eagerly, or takes quotes for quoting, would get wrong.
AWKWARD = (
    '"Quoted , to the end',
    "it 's trailing ",
    'a " in the middle',
    "caf\u00e9 \u2028 next\x85line",
    "",
    "N/A",
)

HEADERS = {
    "cola": (),
    "sst2": ("sentence", "label"),
    "reviews": ("sentence", "label"),
    "mrpc": ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
    "stsb": (
        *("index", "genre", "filename", "year", "old_index", "source1", "source2"),
        *("sentence1", "sentence2", "score"),
    ),
    "qqp": ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
    "mnli": (
        *("index", "promptID", "pairID", "genre"),
        *("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"),
        *("sentence1", "sentence2", "label1", "label2", "gold_label"),
    ),
    "qnli": ("index", "question", "sentence", "label"),
    "rte": ("index", "sentence1", "sentence2", "label"),
    "wnli": ("index", "sentence1", "sentence2", "label"),
}

NAMES = {
    "mnli": ("entailment", "neutral", "contradiction"),
    "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
}


@dataclass(frozen=True)
class Example:
    texts: tuple[str, ...]
    label: float


def examples(task: Task) -> list[Example]:
    """Six rows with awkward texts and every label of the task."""
    labels = (0.0, 3.8, 5.0, 2.333, 1.25, 4.6) if task.is_regression else (1, 0, 1, 1, 0, 0)
    if task.name == "mnli":
        labels = (2, 0, 1, 1, 0, 2)
    return [
        Example((text, text[::-1])[: len(task.text_columns)], label)
        for text, label in zip(AWKWARD, labels, strict=True)
    ]


def table(task: Task, rows: Sequence[Example], **replaced: pa.Array) -> pa.Table:
    """The rows with the hub's columns, types and declared class names."""
    columns: dict[str, pa.Array] = {
        name: pa.array([row.texts[position] for row in rows], pa.string())
        for position, name in enumerate(task.text_columns)
    }
    kind = pa.float32() if task.is_regression else pa.int64()
    columns["label"] = pa.array([row.label for row in rows], kind)
    columns["idx"] = pa.array(range(len(rows)), pa.int32())
    declared = {"names": list(task.labels), "_type": "ClassLabel"}
    label = {"dtype": "float32", "_type": "Value"} if task.is_regression else declared
    schema = {"huggingface": json.dumps({"info": {"features": {"label": label}}})}
    return pa.table(columns | replaced).replace_schema_metadata(schema)


def write_parquet(content: pa.Table, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(content, path)
    return path


def write_tsv(task: Task, rows: Sequence[Example], path: Path) -> Path:
    """The rows as GLUE's own zip files have them."""
    header = ["\t".join(HEADERS[task.name])] if HEADERS[task.name] else []
    return write_lines([*header, *(tsv_line(task, *row) for row in enumerate(rows))], path)


def write_lines(lines: Sequence[str], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def tsv_line(task: Task, number: int, row: Example) -> str:
    label = f"{row.label:.7f}" if task.is_regression else str(row.label)
    if task.name in NAMES:
        label = NAMES[task.name][int(row.label)]
    first = str(number)
    cells = {
        "cola": ("gj04", label, "*", *row.texts),
        "sst2": (*row.texts, label),
        "reviews": (*row.texts, label),
        "mrpc": (label, f"70{number}", f"80{number}", *row.texts),
        "stsb": (first, "news", "MSRpar", "2012", "0001", "none", "none", *row.texts, label),
        "qqp": (first, "101", "102", *row.texts, label),
        "mnli": (first, "63735", "63735n", "slate", *"abcd", *row.texts, "neutral", "-", label),
        "qnli": (first, *row.texts, label),
        "rte": (first, *row.texts, label),
        "wnli": (first, *row.texts, label),
    }
    return "\t".join(cells[task.name])
