"""Which cells the table has, and in which order they are run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ABLATED",
    "ABLATED_METHOD",
    "ABLATIONS",
    "CONTINUED",
    "CONTROLS",
    "DENSE",
    "EPOCHS",
    "METHODS",
    "PROXIMAL",
    "Cell",
    "cell_named",
    "cells",
]

DENSE = "dense"
CONTINUED, PROXIMAL = "continued", "admm, proximal"
# Beside the presets: which preset, with which changes. The first tells compression from training: a
# model that nothing is taken from, trained on as long, at the same rates and by the same losses.
# The second tells ADMM from the form it was published in: it has the penalty, pull, recovery and
# cool-down of `deploy`.
CONTROLS: dict[str, tuple[str, dict[str, Any]]] = {
    CONTINUED: ("deploy", {"default": "dense"}),
    PROXIMAL: (
        "admm",
        {
            "sparsity": {"penalty": "proximal", "pull": 0.5, "pull_final": 0.9, "recovery": 0.3},
            "training": {"cooldown": 0.3},
        },
    ),
}
METHODS = (
    *(DENSE, "asp+qat", "deploy", "w4", CONTINUED),
    *("asp", "admm", PROXIMAL, "paper", "sequential"),
)
SEEDED = (DENSE, "asp+qat", "deploy", "w4")  # with three seeds
LARGE = (DENSE, "deploy", "w4")  # on SST-2
TASKS = ("mrpc", "rte", "stsb", "cola")
# The preset that missed an aim, on the task where it lost most and on one that it lost little on.
ABLATED_METHOD = "w4"
ABLATED = ("cola", "mrpc")
SST2_SENTENCES = 20_000

# Of compression: about as many optimizer steps, 800 to 1 250, on every task.
EPOCHS = {"mrpc": 10, "rte": 10, "stsb": 6, "cola": 4, "sst2": 2}
# RTE's 2 490 pairs alone leave MiniLM at chance, where nothing can be lost. Its encoder is first
# trained on MNLI, as usual for RTE (Phang et al., 2018), once for all seeds.
BEGUN_ON = {"rte": "mnli"}

# What the preset is without one of its ingredients: which of them costs or brings how much.
ABLATIONS: dict[str, dict[str, Any]] = {
    f"{ABLATED_METHOD}, {name}": changes
    for name, changes in {
        "no pruning": {"default": "int4"},
        "no quantization": {"default": "2:4"},
        "no distillation": {"distillation": {"logits": 0.0, "hidden": 0.0}},
        "magnitude for ADMM": {"sparsity": {"method": "magnitude"}},
        "no learned steps": {"weights": {"learned": False}, "activations": {"learned": False}},
        "no recovery": {"sparsity": {"recovery": 0.0}},
        "linear placement": {"placement": "linear"},
    }.items()
}


@dataclass(frozen=True)
class Cell:
    """One method on one task with one seed."""

    task: str
    method: str
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of its result file, without the suffix."""
        method = self.method.replace(", ", "-").replace(" ", "-")
        return f"{self.task}_{method}_{self.seed}"

    @property
    def limit(self) -> int | None:
        """Training examples; None: all."""
        return SST2_SENTENCES if self.task == "sst2" else None

    @property
    def begins_on(self) -> "Cell | None":
        """The dense model whose encoder this dense one starts from; None: the pre-trained one."""
        before = BEGUN_ON.get(self.task)
        return Cell(before, DENSE) if before is not None else None

    @property
    def is_dense(self) -> bool:
        """Whether it is the model that the others of its task and seed start from."""
        return self.method == DENSE


def cells() -> Iterator[Cell]:
    """Every cell, the most telling first; dense before what starts from it."""
    for task in BEGUN_ON.values():
        yield Cell(task, DENSE)
    for method in METHODS:
        for task in TASKS:
            yield Cell(task, method)
    for seed in (1, 2):
        for method in SEEDED:
            for task in TASKS:
                yield Cell(task, method, seed)
    for method in LARGE:
        yield Cell("sst2", method)
    for ablation in ABLATIONS:
        for task in ABLATED:
            yield Cell(task, ablation)


def cell_named(name: str) -> Cell:
    """The cell whose result file is `name`; raises SystemExit for another name."""
    for cell in cells():
        if cell.name == name:
            return cell
    raise SystemExit(f"{name}: no such cell; --list names them")
