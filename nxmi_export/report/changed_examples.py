"""A comparison of two rungs in, the examples it changed out: text, margins and cause of each."""

from collections import Counter
from collections.abc import Iterator

from nxmi_export.glue import Task, task_named
from nxmi_export.report.markup import Html, element, figure, joined, table
from nxmi_export.report.parity_facts import FAILS, HOLDS, OPEN, Facts

__all__ = ["MOST_SHOWN", "changed_examples"]

MOST_SHOWN = 50  # of a comparison; the JSON file has them all

# What is said of a changed example, the worst first.
_KNOWN = {"unexplained": FAILS, "not observable": OPEN, "explained": HOLDS}


def changed_examples(split: Facts, step: Facts) -> Html:
    """A table, closed until it is asked for; a sentence where nothing changed."""
    comparison = step["comparison"]
    changes = comparison["changes"]
    between = f"from {comparison['reference']} to {comparison['candidate']}"
    if not changes:
        finite = comparison["largest_logit_gap"] is not None
        what = "No prediction changed" if finite else "Predictions cannot be compared"
        return element("p", f"{what} {between}.")
    explained = {each["index"]: each for each in step["explanations"]}
    known = {each["index"]: _known(explained.get(each["index"])) for each in changes}
    worst_first = sorted(changes, key=lambda each: list(_KNOWN).index(known[each["index"]]))
    counts = Counter(known.values())
    summary = ", ".join(f"{counts[each]} {each}" for each in _KNOWN if counts[each])
    shown = worst_first[:MOST_SHOWN]
    task = task_named(split["dataset"]["task"])
    rows = (tuple(_cells(task, each, explained.get(each["index"]))) for each in shown)
    title = f"{len(changes)} of {comparison['examples']} predictions changed {between}: {summary}"
    return element(
        "details",
        element("summary", title),
        table(_how_many(len(shown), len(changes)), _headings(task), rows),
    )


def _how_many(shown: int, total: int) -> str:
    if shown == total:
        return f"All {total}, unexplained ones first"
    return f"The first {shown} of {total}, unexplained ones first; the JSON file has all"


def _headings(task: Task) -> tuple[str, ...]:
    margin = () if task.is_regression else ("margin",)
    return ("example", "text", "label", "prediction", *margin, "cause")


def _cells(task: Task, change: Facts, explanation: Facts | None) -> Iterator[str]:
    yield joined((figure(change["index"], "d"), " (GLUE's ", figure(change["id"], "d"), ")"))
    # The direction of its own script, which must not spread to what stands beside it.
    yield joined(element("q", text, dir="auto") for text in change["texts"])
    yield _decision(task, change["label"])
    yield joined((_decision(task, change["before"]), " → ", _decision(task, change["after"])))
    if not task.is_regression:
        margins = (figure(change[f"margin_{when}"], ".4g") for when in ("before", "after"))
        yield joined(margins, " → ")
    yield joined(_cause(explanation))


def _decision(task: Task, value: float) -> Html:
    """A class by number and name, or a score."""
    if task.is_regression:
        return figure(value, ".3f")
    return joined((figure(value, "g"), f" {task.labels[int(value)]}"))


def _known(explanation: Facts | None) -> str:
    if explanation is None or explanation["explained"] is False:
        return "unexplained"
    return "explained" if explanation["explained"] else "not observable"


def _cause(explanation: Facts | None) -> Iterator[str]:
    known = _known(explanation)
    yield _KNOWN[known](known)
    if explanation is None:
        yield ": It was not examined."
        return
    yield f": {explanation['reason']}"
    first = explanation["first_difference"]
    if first and not explanation["explained"]:  # the reason of one that is explained has it
        yield " The first code that differs is at "
        yield element("code", first["module"])
        yield ", codes that differ in all: "
        yield figure(explanation["differing_codes"], "d")
        yield "."
