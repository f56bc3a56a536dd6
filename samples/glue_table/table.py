"""Result files in, the table in Markdown out."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samples.glue_table.cells import METHODS, TASKS, Cell, cells

__all__ = ["markdown"]

NOT_RUN = "not run"
COLUMNS = (*TASKS, "sst2")


def markdown(results: Path) -> str:
    """Metric (mean ± standard deviation over seeds) and retention of dense, per method and task.

    Retention compares each seed with the dense model it started from. The average retention is over
    the four tasks that every method is run on, and only where all four were run.
    """
    found = {cell: _read(results, cell) for cell in cells()}
    names = list(dict.fromkeys(cell.method for cell in cells()))
    lines = [
        "| method | " + " | ".join(COLUMNS) + " | average retention |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for method in names:
        row = [_entry(found, task, method) for task in COLUMNS]
        lines.append(f"| {method} | " + " | ".join(row) + f" | {_average(found, method)} |")
    return "\n".join(lines)


def _entry(found: dict[Cell, dict[str, Any] | None], task: str, method: str) -> str:
    planned = [cell for cell in found if (cell.task, cell.method) == (task, method)]
    if not planned:
        return ""
    metrics = [100 * result["metric"] for cell in planned if (result := found[cell])]
    if not metrics:
        return NOT_RUN
    text = f"{statistics.fmean(metrics):.1f}"
    if len(metrics) > 1:
        text += f" ± {statistics.stdev(metrics):.1f} ({len(metrics)} seeds)"
    kept = _retentions(found, task, method)
    return text if method == METHODS[0] or not kept else f"{text}, {statistics.fmean(kept):.1%}"


def _retentions(
    found: dict[Cell, dict[str, Any] | None], task: str, method: str
) -> Sequence[float]:
    kept = []
    for cell, result in found.items():
        dense = found.get(Cell(task, METHODS[0], cell.seed))
        if (cell.task, cell.method) == (task, method) and result and dense:
            kept.append(result["metric"] / dense["metric"])
    return kept


def _average(found: dict[Cell, dict[str, Any] | None], method: str) -> str:
    """Over seed 0 of the four tasks, which every method has."""
    kept = []
    for task in TASKS:
        result, dense = found.get(Cell(task, method)), found.get(Cell(task, METHODS[0]))
        if not result or not dense:
            return ""
        kept.append(result["metric"] / dense["metric"])
    return f"{statistics.fmean(kept):.1%}"


def _read(results: Path, cell: Cell) -> dict[str, Any] | None:
    path = results / f"{cell.name}.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result
