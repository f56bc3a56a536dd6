"""Which exports there are: one that was trained for every task, and others of many kinds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Cell", "cell_named", "cells", "ladder"]

# The smallest dev sets first, so that something is known early.
TASKS = ("wnli", "rte", "mrpc", "sst2", "cola", "stsb", "qnli", "mnli", "qqp")


@dataclass(frozen=True)
class Cell:
    """One export and how its model is made."""

    name: str  # of its result file, without the suffix
    task: str
    recipe: str  # a preset
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the preset
    examples: int = 4000  # at most, of the train set, for the dense model and its compression
    epochs: int = 0  # of compression; 0 projects and calibrates only
    seed: int = 0  # of the dense model's head and order
    float16: bool = False  # with model.fp16.onnx
    drift: bool = False  # with every layer's drift measured
    captured: bool = False  # with the graph before any pass as a rung


def ladder() -> Iterator[Cell]:
    """One for each task, trained for an epoch, with everything that the default recipe does.

    They run every rung, the graph before any pass too.
    """
    for task in TASKS:
        yield Cell(f"{task}_deploy", task, "deploy", epochs=1, captured=True)


def cells() -> Iterator[Cell]:
    """Every cell: the ladder's, then other recipes, placements, seeds, storage."""
    yield from ladder()
    linear, attention = {"placement": "linear"}, {"placement": "attention"}
    yield Cell("wnli_ptq_linear", "wnli", "ptq", linear, drift=True)
    yield Cell("wnli_w4_seed1", "wnli", "w4", seed=1, drift=True)
    yield Cell("rte_ptq_attention", "rte", "ptq", attention, drift=True)
    yield Cell("rte_embeddings", "rte", "ptq", {"embeddings": "int8"}, drift=True)
    yield Cell("mrpc_ptq_linear", "mrpc", "ptq", linear)
    yield Cell("mrpc_ptq_attention_float16", "mrpc", "ptq", attention, float16=True)
    yield Cell("mrpc_qat", "mrpc", "qat", epochs=1)
    static = {"activations": {"mode": "static"}}  # the paper's scales per token run in PyTorch only
    yield Cell("sst2_paper", "sst2", "paper", static)
    yield Cell("sst2_w4_float16", "sst2", "w4", float16=True)
    yield Cell("cola_asp", "cola", "asp", epochs=1)
    yield Cell("cola_int8_attention", "cola", "ptq", {"default": "int8"} | attention)
    yield Cell("stsb_ptq_linear", "stsb", "ptq", linear)
    yield Cell("stsb_w4_seed1", "stsb", "w4", seed=1)


def cell_named(name: str) -> Cell:
    """The cell of that name; raises SystemExit for another."""
    for cell in cells():
        if cell.name == name:
            return cell
    raise SystemExit(f"{name}: no such cell; --list names them")
