"""Result files in, two tables in Markdown out: the ladder by task, and what honest exports fail."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nxmi_export.glue import task_named
from samples.cell_table import read_result
from samples.parity_table.cells import Cell, cells, ladder
from samples.parity_table.constant_answers import is_a_constant_answers_score

__all__ = ["POINTS", "markdown", "points"]

RUNGS = ("dense", "compressed", "captured", "written", "optimized")
LADDER = (
    *("dev set", "examples", "metric", *RUNGS),
    *("changed written (unexplained)", "changed optimized (unexplained)"),
    *("optimized − compressed, points", "optimized − written, points"),
    *("shifted, other bits", "shapes changed (unexplained)", "verdict", "processor min", "peak MB"),
)
POINTS = 0.1  # that deployment may cost; a rounding tie in a small dev set costs more
HONEST = (
    *("export", "recipe", "examples", "changed, compressed → optimized"),
    *("unexplained, all steps", "gates"),
)
CONSTANT = "†"
_CONSTANT_SENTENCE = (
    f"{CONSTANT} is what always answering one class scores: such a model may not tell its examples "
    "apart, and that few of its answers change is then little evidence."
)


def markdown(results: Path) -> str:
    """The ladder of every task, then one line for each export; missing ones say so."""
    done = {cell.name: read_result(cell.name, results) for cell in cells()}
    ladders = [row for cell in ladder() for row in _ladder_rows(cell, done[cell.name])]
    honest = [_honest_row(cell, done[cell.name]) for cell in cells()]
    finished = [each for each in done.values() if each is not None]
    failed = sum(not each["ok"] for each in finished)
    checks = sum(split["checks"] for each in finished for split in each["splits"])
    splits = [split for cell in ladder() if (found := done[cell.name]) for split in found["splits"]]
    kernels, deployed = (
        sum(abs(points(split, before, "optimized")) <= POINTS for split in splits)
        for before in ("written", "compressed")
    )
    marked = any(CONSTANT in cell for row in ladders for cell in row)
    return "\n".join(
        [
            *_table(LADDER, ladders),
            "",
            *([_CONSTANT_SENTENCE, ""] if marked else ()),
            *_table(HONEST, honest),
            "",
            f"{len(finished)} of {len(done)} exports ran; {failed} failed one of {checks} checks. "
            f"Of {len(splits)} dev sets of the ladder, optimized kernels (written → optimized) "
            f"moved the score by at most {POINTS} points on {kernels}, and the whole deployment "
            f"(compressed → optimized) on {deployed}.",
        ]
    )


def points(split: Mapping[str, Any], reference: str, candidate: str) -> float:
    """How far the primary score of one rung is above another's, in points."""
    rungs = split["rungs"]
    return 100 * float(rungs[candidate]["primary"] - rungs[reference]["primary"])


def _ladder_rows(cell: Cell, result: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    task = task_named(cell.task)
    if result is None:
        return [(task.name, "not run", *("" for _ in LADDER[2:]))]
    return [_ladder_row(cell, result, split) for split in result["splits"]]


def _ladder_row(cell: Cell, result: Mapping[str, Any], split: Mapping[str, Any]) -> tuple[str, ...]:
    task = task_named(cell.task)
    scores = {name: f"{100 * split['rungs'][name]['primary']:.2f}" for name in RUNGS}
    dense = split["rungs"]["dense"]["primary"]
    if is_a_constant_answers_score(task.name, split["split"], dense):
        scores["dense"] += CONSTANT
    shapes = split["shapes"]
    matched = split["split"].removeprefix("validation").removeprefix("_")
    return (
        f"{task.name} {matched}".strip(),
        str(split["examples"]),
        task.primary_metric,
        *scores.values(),
        _changed(split, "compressed", "written"),
        _changed(split, "compressed", "optimized"),
        f"{points(split, 'compressed', 'optimized'):+.2f}",
        f"{points(split, 'written', 'optimized'):+.2f}",
        _other_bits(split),
        f"{shapes['changed']} ({shapes['unexplained']})",
        "passed" if not split["failures"] else "FAILED",
        f"{result['processor_seconds'] / 60:.1f}",
        str(result["peak_mb"]),
    )


def _changed(split: Mapping[str, Any], reference: str, candidate: str) -> str:
    step = _step(split, reference, candidate)
    return f"{step['changed']} ({step['unexplained']})"


def _other_bits(split: Mapping[str, Any]) -> str:
    """Of the first examples: the file for the CPU as written does not run the others."""
    step = _step(split, "written", "shifted")
    return f"{step['different']} of the first {step['examples']}"


def _step(split: Mapping[str, Any], reference: str, candidate: str) -> Mapping[str, Any]:
    found: Mapping[str, Any]
    (found,) = (
        s for s in split["steps"] if (s["reference"], s["candidate"]) == (reference, candidate)
    )
    return found


def _honest_row(cell: Cell, result: Mapping[str, Any] | None) -> tuple[str, ...]:
    if result is None:
        return (cell.name, "", "not run", "", "", "")
    splits = result["splits"]
    steps = [s for each in splits for s in each["steps"] if s["reference"] != "dense"]
    deployed = [_step(each, "compressed", "optimized") for each in splits]
    failures = [failure for each in splits for failure in each["failures"]]
    return (
        cell.name,
        f"{cell.recipe}, {cell.epochs or 'no'} epoch",
        str(sum(each["examples"] for each in splits)),
        str(sum(step["changed"] for step in deployed)),
        str(sum(step["unexplained"] for step in steps)),
        "all hold" if result["ok"] else "; ".join(failures) or "FAILED",
    )


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]
