"""Result files in, the table in Markdown out, and how well scores before training foretold it."""

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from samples.cell_table import conditions
from samples.search_table.cells import (
    SEARCHED,
    TASKS,
    UNIFORM,
    Budget,
    Cell,
    Kind,
    Searched,
    cells,
    kinds,
)

__all__ = ["markdown", "rank_correlation"]

NOT_RUN = "not run"
AIM = 0.995  # of the dense model's metric, at 87.5 % nominal
FEWEST = 5  # pairs that a rank correlation is told of; its p is an approximation

Found = dict[Cell, dict[str, Any]]


def markdown(results: Path) -> str:
    """Metric and retention of dense, by budget and kind; then what came of the aims.

    Below, the divergences before training, how well they foretold the metrics, and what was trained
    where.
    """
    found = _read(results)
    lines = [
        "| 12.5 % | configuration | " + " | ".join(TASKS) + " | average retention | size |",
        "|---|---|" + "---|" * (len(TASKS) + 2),
    ]
    for budget in UNIFORM:
        for kind in kinds(budget):
            row = [_entry(found.get(Cell(task, budget, kind))) for task in TASKS]
            kept = _retention(found, budget, kind)
            average = "" if kept is None else f"{kept:.1%}"
            sizes = _sizes(found, budget, kind)
            lines.append(f"| {budget} | {kind} | {' | '.join(row)} | {average} | {sizes} |")
    lines += ["", *_aims(found)]
    lines += ["", "What the searches minimize: the divergence before any training, on the slice of"]
    lines += ["train that they look at (mrpc, rte: nats; stsb: squared difference).", ""]
    lines += _before_training(found)
    lines += ["", "Rank correlation of the divergence before training with the trained metric:", ""]
    lines += [f"- {told}" for task in TASKS for told in _rank_correlations(found, task)]
    lines += ["", *conditions([found.get(cell) for cell in cells()]), *_taken(found)]
    return "\n".join(lines)


def _before_training(found: Found) -> Iterator[str]:
    """The divergences, as the first table has the metrics."""
    yield "| 12.5 % | configuration | " + " | ".join(TASKS) + " |"
    yield "|---|---|" + "---|" * len(TASKS)
    for budget in UNIFORM:
        for kind in kinds(budget):
            own = [found.get(Cell(task, budget, kind)) for task in TASKS]
            told = [f"{each['zero_shot']['divergence']:.3f}" if each else NOT_RUN for each in own]
            yield f"| {budget} | {kind} | {' | '.join(told)} |"


def _aims(found: Found) -> Iterator[str]:
    """What was wanted of the searches, and what came of it."""
    for budget in UNIFORM:
        for kind in SEARCHED:
            told = _gain(found, budget, kind)
            yield f"- {budget}: `{kind}` beside one scheme everywhere, points on average: {told}"
        told = _gain(found, budget, "layer", "component")
        yield f"- {budget}: `layer` beside `component`, points on average: {told}"
    aim = f"the search keeps at least {AIM:.1%} of dense on average"
    yield f"- nominal: {aim}: {_judged(found, 'nominal', AIM)}"


def _judged(found: Found, budget: Budget, aim: float) -> str:
    """By the winner of each task, which is the better of both searches before any training.

    It is what ranked/01.yaml holds of a search that does both; dev sets do not choose it.
    """
    best = (_least_divergence(found, task, budget, SEARCHED) for task in TASKS)
    winners = [cell for cell in best if cell is not None]
    if len(winners) < len(TASKS):
        return "not known yet"
    kept = statistics.fmean(found[cell]["retention"] for cell in winners)
    which = ", ".join(f"{cell.task} {cell.kind}" for cell in winners)
    alone = ", ".join(f"`{kind}` {_retention(found, budget, kind):.1%}" for kind in SEARCHED)
    return f"{'met' if kept >= aim else 'missed'}, {kept:.1%} ({which}; alone {alone})"


def _gain(found: Found, budget: Budget, kind: Searched, other: Searched | None = None) -> str:
    """Without `other`, against the uniform configuration that diverged less before training.

    That is what a user without a search could have chosen; dev sets do not choose it.
    """
    gains, told = [], []
    for task in TASKS:
        rival = _least_divergence(found, task, budget, (other,) if other else UNIFORM[budget])
        one = found.get(Cell(task, budget, kind))
        if one is None or rival is None:
            return "not known yet"
        gains.append(100 * (one["metric"] - found[rival]["metric"]))
        told.append(f"{task} {gains[-1]:+.1f}{'' if other else f' to {rival.kind}'}")
    return f"{statistics.fmean(gains):+.1f} ({', '.join(told)})"


def _least_divergence(
    found: Found, task: str, budget: Budget, among: Sequence[Kind]
) -> Cell | None:
    """The best of these before any training, the first of equals; None where one was not run."""
    rivals = [Cell(task, budget, kind) for kind in among]
    if not all(cell in found for cell in rivals):
        return None
    return min(rivals, key=lambda cell: found[cell]["zero_shot"]["divergence"])


def _rank_correlations(found: Found, task: str) -> Iterator[str]:
    """One for the task; one for each budget where they are of different dense models."""
    own = {cell: each for cell, each in found.items() if cell.task == task}
    if len({each["dense_sha256"] for each in own.values()}) <= 1:
        yield f"{task}: {rank_correlation(own.values())}"
        return
    for budget in UNIFORM:
        told = rank_correlation(each for cell, each in own.items() if cell.budget == budget)
        yield f"{task}, {budget}: {told}"


def rank_correlation(results: Iterable[dict[str, Any]]) -> str:
    """Spearman's, positive where less divergence ends in a higher metric; with the honest n.

    `results` are of one dense model. The same configuration, chosen twice, was trained to the same
    weights: it counts once.
    """
    configurations = {json.dumps(each["schemes"], sort_keys=True): each for each in results}
    pairs = [(-each["zero_shot"]["divergence"], each["metric"]) for each in configurations.values()]
    if len(pairs) < FEWEST:
        return f"too few to tell (n = {len(pairs)})"
    expected, trained = zip(*pairs, strict=True)
    if len(set(expected)) == 1 or len(set(trained)) == 1:
        return f"undefined, as all are equal (n = {len(pairs)})"
    result = spearmanr(expected, trained)
    return f"{result.statistic:+.2f} (n = {len(pairs)}, p = {result.pvalue:.2f})"


def _taken(found: Found) -> Iterator[str]:
    """Which cells were not trained, as another one was in the same way."""
    for cell in cells():
        if cell in found and "taken_from" in found[cell]:
            yield f"- {cell.name} is {found[cell]['taken_from']}: the same recipe, trained once"


def _entry(result: dict[str, Any] | None) -> str:
    return f"{100 * result['metric']:.1f}, {result['retention']:.1%}" if result else NOT_RUN


def _retention(found: Found, budget: Budget, kind: Kind) -> float | None:
    """The mean over all tasks, None where one was not run."""
    results = [found.get(Cell(task, budget, kind)) for task in TASKS]
    kept = [each["retention"] for each in results if each]
    return statistics.fmean(kept) if len(kept) == len(TASKS) else None


def _sizes(found: Found, budget: Budget, kind: Kind) -> str:
    """From the smallest of any task to the largest, as the budget counts them."""
    results = (found.get(Cell(task, budget, kind)) for task in TASKS)
    sizes = sorted(100 * each["size"] for each in results if each)
    return " to ".join(dict.fromkeys(f"{each:.1f} %" for each in (*sizes[:1], *sizes[-1:])))


def _read(results: Path) -> Found:
    """Exits where the configurations of one task and budget are of different searches."""
    found, searches = {}, {}
    for path in sorted(results.glob("*.json")):
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cell = Cell(**result["cell"])
        if searches.setdefault((cell.task, cell.budget), result["searched"]) != result["searched"]:
            raise SystemExit(
                f"{path}: chosen by another search than others of {cell.task}, {cell.budget}; "
                "delete those of the older search to run them again"
            )
        found[cell] = result
    return found
