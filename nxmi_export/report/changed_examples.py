"""A comparison of two rungs in, the examples it changed out: text, margins and cause of each."""

from collections import Counter
from collections.abc import Iterator, Sequence

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
    labels = split["dataset"]["labels"]  # none of a regression
    rows = (tuple(_cells(labels, each, explained.get(each["index"]))) for each in shown)
    title = f"{len(changes)} of {comparison['examples']} predictions changed {between}: {summary}"
    return element(
        "details",
        element("summary", title),
        table(_how_many(len(shown), len(changes)), _headings(labels), rows),
    )


def _how_many(shown: int, total: int) -> str:
    if shown == total:
        return f"All {total}, unexplained ones first"
    return f"The first {shown} of {total}, unexplained ones first; the JSON file has all"


def _headings(labels: Sequence[str]) -> tuple[str, ...]:
    margin = ("margin",) if labels else ()
    return ("example", "text", "label", "prediction", *margin, "cause")


def _cells(labels: Sequence[str], change: Facts, explanation: Facts | None) -> Iterator[str]:
    yield joined((figure(change["index"], "d"), " (idx ", figure(change["id"], "d"), ")"))
    # The direction of its own script, which must not spread to what stands beside it.
    yield joined(element("q", text, dir="auto") for text in change["texts"])
    yield _decision(labels, change["label"])
    yield joined((_decision(labels, change["before"]), " → ", _decision(labels, change["after"])))
    if labels:
        margins = (figure(change[f"margin_{when}"], ".4g") for when in ("before", "after"))
        yield joined(margins, " → ")
    yield joined(_cause(explanation))


def _decision(labels: Sequence[str], value: float) -> Html:
    """A class by number and name, or a score."""
    if not labels:
        return figure(value, ".3f")
    return joined((figure(value, "g"), f" {labels[int(value)]}"))


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
