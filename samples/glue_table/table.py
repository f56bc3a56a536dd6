"""Result files in, the tables in Markdown out, and what they say of the aims."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from samples.cell_table import conditions, read_result
from samples.glue_table.cells import (
    ABLATED,
    ABLATED_METHOD,
    ABLATIONS,
    CONTINUED,
    DENSE,
    METHODS,
    PROXIMAL,
    TASKS,
    Cell,
    cells,
)

__all__ = ["markdown"]

NOT_RUN = "not run"
COLUMNS = (*TASKS, "sst2")
# Of the dense model's metric: what Holmes et al. (2022) report, and what is wanted beyond it.
AIMS = {"deploy": (0.995, 1.0), "w4": (0.982, 0.995)}

Found = dict[Cell, dict[str, Any] | None]


def markdown(results: Path) -> str:
    """Metric (mean ± standard deviation over seeds) and retention of dense, per method and task.

    Each run's retention is against the dense model that it started from. The average retention is
    over the tasks that every method is run on, and only where all of them were run. Ablations have
    one seed, so what stands beside them is of that seed too.
    """
    found = {cell: read_result(cell.name, results) for cell in cells()}
    ablations = [CONTINUED, "deploy", ABLATED_METHOD, *ABLATIONS]
    one_seed = {cell: result for cell, result in found.items() if cell.seed == 0}
    lines = [
        *_table(found, METHODS, COLUMNS, average=True),
        "",
        *_aims(found),
        _moved(found),
        *_trained_again(found),
        "",
        *_table(one_seed, ablations, ABLATED, average=False),
        "",
        *conditions(found.values()),
    ]
    return "\n".join(lines)


def _table(
    found: Found, methods: Iterable[str], tasks: Sequence[str], *, average: bool
) -> Iterator[str]:
    names = ["method", *tasks, *(["average retention"] if average else [])]
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"
    for method in methods:
        row = [method, *(_entry(found, task, method) for task in tasks)]
        if average:
            kept = _average(found, method)
            row.append("" if kept is None else f"{kept:.1%}")
        yield f"| {' | '.join(row)} |"


def _entry(found: Found, task: str, method: str) -> str:
    if not any((cell.task, cell.method) == (task, method) for cell in found):
        return ""
    results = _of(found, task, method)
    if not results:
        return NOT_RUN
    metrics = [100 * result["metric"] for result in results]
    text = f"{statistics.fmean(metrics):.1f}"
    if len(metrics) > 1:
        text += f" ± {statistics.stdev(metrics):.1f} ({len(metrics)} seeds)"
    kept = _retention(found, task, method)
    return text if kept is None else f"{text}, {kept:.1%}"


def _of(found: Found, task: str, method: str) -> list[dict[str, Any]]:
    """The results of all seeds that were run."""
    return [
        result
        for cell, result in found.items()
        if result and (cell.task, cell.method) == (task, method)
    ]


def _retention(found: Found, task: str, method: str) -> float | None:
    """The mean over seeds; None where there is none."""
    results = _of(found, task, method)
    kept = [result["retention"] for result in results if result.get("retention") is not None]
    return statistics.fmean(kept) if kept else None


def _average(found: Found, method: str) -> float | None:
    """The mean of the tasks' mean retentions, over the four tasks that every method has."""
    means = [_retention(found, task, method) for task in TASKS]
    known = [kept for kept in means if kept is not None]
    return statistics.fmean(known) if len(known) == len(means) else None


def _aims(found: Found) -> Iterator[str]:
    """Each aim, and what came of it."""
    for method, aims in AIMS.items():
        kept = _average(found, method)
        for aim in aims:
            told = "not known yet"
            if kept is not None:
                runs = (f"{task} {len(_of(found, task, method))}" for task in TASKS)
                met = "met" if kept >= aim else "missed"
                yet = "" if _all_run(found, method) else " so far"
                told = f"{met}{yet}, {kept:.1%} (seeds: {', '.join(runs)})"
            yield f"- `{method}` keeps at least {aim:.1%} of dense on average: {told}"
        yield f"- `{method}` by other averages: {_other_averages(found, method)}"
    for method in AIMS:
        kept_of = _beside(found, method, CONTINUED, lambda ours, theirs: ours / theirs, "{:.1%}")
        yield f"- `{method}` keeps of `{CONTINUED}`, on average: {kept_of}"
    for method in ("admm", PROXIMAL):
        gain = _beside(found, method, "asp", lambda ours, asp: 100 * (ours - asp), "{:+.1f}")
        yield f"- `{method}` beside `asp`, 2:4 alone, points on average (published: +1.7): {gain}"


def _all_run(found: Found, method: str) -> bool:
    """Whether every planned seed of the four tasks has its result."""
    planned = (r for cell, r in found.items() if cell.method == method and cell.task in TASKS)
    return all(planned)


def _other_averages(found: Found, method: str) -> str:
    """The published one, of scores and not of shares; and without the task that is kept best."""
    kept = {task: _retention(found, task, method) for task in TASKS}
    known = {task: share for task, share in kept.items() if share is not None}
    if len(known) < len(TASKS):
        return "not known yet"
    best = max(known, key=lambda task: known[task])
    rest = statistics.fmean(share for task, share in known.items() if task != best)
    runs = [_of(found, task, method) for task in TASKS]
    ours = sum(statistics.fmean(run["metric"] for run in each) for each in runs)
    told = f"{ours / sum(statistics.fmean(map(_begun_from, each)) for each in runs):.1%}"
    return f"{told} of dense's average score, as published; {rest:.1%} without {best}"


def _begun_from(result: dict[str, Any]) -> float:
    """The metric of the dense model that a compressed one started from."""
    metric: float = result["scores"]["dense"]["primary"]
    return metric


def _trained_again(found: Found) -> Iterator[str]:
    """Runs whose dense model is not the one of the first row: weights are not kept for long."""
    told = []
    for cell, result in found.items():
        dense = found.get(Cell(cell.task, DENSE, cell.seed))
        if result and dense and not cell.is_dense and _begun_from(result) != dense["metric"]:
            metrics = f"{100 * _begun_from(result):.2f}, not {100 * dense['metric']:.2f}"
            told.append(f"`{cell.method}` {cell.task}, seed {cell.seed} ({metrics})")
    if told:
        yield f"- runs that start from a dense model that was trained again: {'; '.join(told)}"


def _moved(found: Found) -> str:
    """Whether a method chose its masks: the mean share over all four tasks, first seeds.

    Dense models have no masks, and None is that of a compression that prunes nothing.
    """
    told = []
    for method in METHODS:
        results = [found.get(Cell(task, method)) for task in TASKS]
        shares = [(result or {}).get("mask_moved") for result in results]
        known = [share for share in shares if share is not None]
        if len(known) == len(TASKS):
            told.append(f"`{method}` {statistics.fmean(known):.2%}")
    listed = ", ".join(told) or "not known yet"
    return f"- mask entries that magnitude projection of the dense weights sets otherwise: {listed}"


def _beside(
    found: Found, method: str, other: str, compared: Callable[[float, float], float], shown: str
) -> str:
    """Its metric beside that of `other`, over the seeds that both were run with."""
    values = []
    for task in TASKS:
        both = [compared(*pair) for pair in _pairs(found, method, other, task)]
        if not both:
            return "not known yet"
        values.append(statistics.fmean(both))
    told = (f"{task} {shown.format(value)}" for task, value in zip(TASKS, values, strict=True))
    runs = (f"{task} {len(_pairs(found, method, other, task))}" for task in TASKS)
    mean = shown.format(statistics.fmean(values))
    return f"{mean} ({', '.join(told)}; seeds: {', '.join(runs)})"


def _pairs(found: Found, method: str, other: str, task: str) -> list[tuple[float, float]]:
    """Its metric and that of `other`, for each seed that both were run with."""
    seeds = [cell.seed for cell in found if (cell.task, cell.method) == (task, DENSE)]
    both = [
        (found.get(Cell(task, method, seed)), found.get(Cell(task, other, seed))) for seed in seeds
    ]
    return [(ours["metric"], theirs["metric"]) for ours, theirs in both if ours and theirs]
