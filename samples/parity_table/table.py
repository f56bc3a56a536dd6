"""Result files in, two tables in Markdown out: the ladder by task, and what honest exports fail."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nxmi_export.glue import task_named
from samples.cell_table import read_result
from samples.parity_table.cells import Cell, cells, ladder

__all__ = ["markdown"]

RUNGS = ("dense", "compressed", "written", "shifted", "optimized")
LADDER = (
    *("dev set", "examples", "metric", *RUNGS),
    *("changed written (unexplained)", "changed optimized (unexplained)", "difference, points"),
    *("shapes changed (unexplained)", "verdict", "min", "peak MB"),
)
HONEST = ("export", "recipe", "examples", "changed", "unexplained", "gates")


def markdown(results: Path) -> str:
    """The ladder of every task, then one line for each export; missing ones say so."""
    done = {cell.name: read_result(cell.name, results) for cell in cells()}
    ladders = [row for cell in ladder() for row in _ladder_rows(cell, done[cell.name])]
    honest = [_honest_row(cell, done[cell.name]) for cell in cells()]
    finished = [each for each in done.values() if each is not None]
    failed = sum(not each["ok"] for each in finished)
    checks = sum(split["checks"] for each in finished for split in each["splits"])
    return "\n".join(
        [
            *_table(LADDER, ladders),
            "",
            *_table(HONEST, honest),
            "",
            f"{len(finished)} of {len(done)} exports ran; {failed} failed one of {checks} checks.",
        ]
    )


def _ladder_rows(cell: Cell, result: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    task = task_named(cell.task)
    if result is None:
        return [(task.name, "not run", *("" for _ in LADDER[2:]))]
    return [_ladder_row(cell, result, split) for split in result["splits"]]


def _ladder_row(cell: Cell, result: Mapping[str, Any], split: Mapping[str, Any]) -> tuple[str, ...]:
    task = task_named(cell.task)
    metric = task.metrics[0]
    scores = {name: 100 * split["rungs"][name][metric] for name in RUNGS}
    shapes = split["shapes"]
    matched = split["split"].removeprefix("validation").removeprefix("_")
    return (
        f"{task.name} {matched}".strip(),
        str(split["examples"]),
        metric,
        *(f"{scores[name]:.2f}" for name in RUNGS),
        _changed(split, "compressed", "written"),
        _changed(split, "written", "optimized"),
        f"{scores['optimized'] - scores['written']:+.2f}",
        f"{shapes['changed']} ({shapes['unexplained']})",
        "passed" if not split["failures"] else "FAILED",
        f"{result['seconds'] / 60:.1f}",
        str(result["peak_mb"]),
    )


def _changed(split: Mapping[str, Any], reference: str, candidate: str) -> str:
    (step,) = (
        s for s in split["steps"] if (s["reference"], s["candidate"]) == (reference, candidate)
    )
    return f"{step['changed']} ({step['unexplained']})"


def _honest_row(cell: Cell, result: Mapping[str, Any] | None) -> tuple[str, ...]:
    if result is None:
        return (cell.name, "", "not run", "", "", "")
    splits = result["splits"]
    steps = [s for each in splits for s in each["steps"] if s["reference"] != "dense"]
    failures = [failure for each in splits for failure in each["failures"]]
    return (
        cell.name,
        f"{cell.recipe}, {cell.epochs or 'no'} epoch",
        str(sum(each["examples"] for each in splits)),
        str(sum(step["changed"] for step in steps)),
        str(sum(step["unexplained"] for step in steps)),
        "all hold" if result["ok"] else "; ".join(failures) or "FAILED",
    )


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]
