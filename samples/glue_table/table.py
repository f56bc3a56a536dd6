"""Result files in, the table in Markdown out."""

import statistics
from pathlib import Path
from typing import Any

from samples.cell_table import conditions, read_result
from samples.glue_table.cells import TASKS, Cell, cells

__all__ = ["markdown"]

NOT_RUN = "not run"
COLUMNS = (*TASKS, "sst2")

Found = dict[Cell, dict[str, Any] | None]


def markdown(results: Path) -> str:
    """Metric (mean ± standard deviation over seeds) and retention of dense, per method and task.

    Each run's retention is against the dense model that it started from. The average retention is
    over the tasks that every method is run on, and only where all of them were run.
    """
    found = {cell: read_result(cell.name, results) for cell in cells()}
    names = list(dict.fromkeys(cell.method for cell in cells()))
    lines = [
        "| method | " + " | ".join(COLUMNS) + " | average retention |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for method in names:
        row = [_entry(found, task, method) for task in COLUMNS]
        lines.append(f"| {method} | " + " | ".join(row) + f" | {_average(found, method)} |")
    return "\n".join([*lines, "", *conditions(found.values())])


def _entry(found: Found, task: str, method: str) -> str:
    planned = [cell for cell in found if (cell.task, cell.method) == (task, method)]
    if not planned:
        return ""
    results = [result for cell in planned if (result := found[cell])]
    if not results:
        return NOT_RUN
    metrics = [100 * result["metric"] for result in results]
    text = f"{statistics.fmean(metrics):.1f}"
    if len(metrics) > 1:
        text += f" ± {statistics.stdev(metrics):.1f} ({len(metrics)} seeds)"
    kept = [result["retention"] for result in results if result.get("retention") is not None]
    return f"{text}, {statistics.fmean(kept):.1%}" if kept else text


def _average(found: Found, method: str) -> str:
    """The mean of the tasks' mean retentions, over the four tasks that every method has."""
    means = []
    for task in TASKS:
        results = [found[cell] for cell in found if (cell.task, cell.method) == (task, method)]
        kept = [result["retention"] for result in results if result and "retention" in result]
        if not kept:
            return ""
        means.append(statistics.fmean(kept))
    return f"{statistics.fmean(means):.1%}"
