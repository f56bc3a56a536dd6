"""A comparison of two rungs in, a rich table of the examples it changed out: answers and causes."""

from collections import Counter
from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from nxmi_export.glue import Task
from nxmi_export.parity import Explanation, PredictionChange, Step

__all__ = ["changes_table"]

_SHOWN = 3  # the JSON has them all
# What is said of a changed example, the worst first.
_UNEXPLAINED, _NOT_OBSERVABLE, _EXPLAINED = "unexplained", "not observable", "explained"
_STYLE = {_UNEXPLAINED: "bold red", _NOT_OBSERVABLE: "yellow", _EXPLAINED: "green"}


def changes_table(step: Step, task: Task) -> Iterator[Table]:
    """Changed examples of a comparison and why they changed, unexplained ones first.

    The title counts them all by what is known of them; no table where nothing changed.
    """
    changes = step.comparison.changes
    if not changes:
        return
    found = {each.index: each for each in step.explanations}
    known = {change.index: _known(found.get(change.index)) for change in changes}
    counts = Counter(known.values())
    summary = ", ".join(f"{counts[each]} {each}" for each in _STYLE if counts[each])
    title = f"changed by {step.comparison.candidate}: {len(changes)} ({summary})"
    table = Table(title=escape(title), title_justify="left")
    for heading in ("example", "text"):
        table.add_column(heading, overflow="fold")
    # A class's name in one piece, behind the arrow too.
    longest = max(map(len, task.labels), default=0)
    table.add_column("before → after", overflow="fold", min_width=longest + len("→ "))
    for heading in ("why",) if task.is_regression else ("margin", "why"):
        table.add_column(heading, overflow="fold")
    worst_first = sorted(changes, key=lambda change: list(_STYLE).index(known[change.index]))
    for change in worst_first[:_SHOWN]:
        explanation = found.get(change.index)
        table.add_row(*map(escape, _cells(change, task)), _why(known[change.index], explanation))
    yield table


def _cells(change: PredictionChange, task: Task) -> Iterator[str]:
    yield str(change.index)
    yield " | ".join(change.texts)
    before, after, label = (
        f"{value:.3f}" if task.is_regression else task.labels[int(value)]
        for value in (change.before, change.after, change.label)
    )
    yield f"{before} → {after}\nlabel: {label}"
    if not task.is_regression:  # which has no second class to be apart from
        yield f"{change.margin_before:.4f}"


def _why(known: str, explanation: Explanation | None) -> str:
    reason = explanation.reason if explanation else "It was not examined."
    return f"[{_STYLE[known]}]{known}[/]: {escape(reason)}"


def _known(explanation: Explanation | None) -> str:
    if explanation is None or explanation.explained is False:
        return _UNEXPLAINED
    return _EXPLAINED if explanation.explained else _NOT_OBSERVABLE
