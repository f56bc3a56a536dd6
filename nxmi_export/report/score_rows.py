"""A parity run's JSON in, the table of its dev sets out: scores, limits, conclusions, power."""

from collections.abc import Iterator, Sequence

from nxmi_export.parity import Stage
from nxmi_export.parity.statistics import Conclusion
from nxmi_export.report.markup import Html, bullets, element, figure, joined, table
from nxmi_export.report.parity_facts import (
    FAILS,
    HOLDS,
    OPEN,
    Facts,
    holds,
    split_name,
    statistics_of,
    step_of,
)

__all__ = ["conclusion", "scores_table", "statistics_told"]

_HEADINGS = (
    *("dev set", "PyTorch → deployed", "points, limits", "conclusion", "changed predictions"),
    *("cannot certify a drop below", "gate"),
)
_MARKS = {
    Conclusion.EQUIVALENT: HOLDS,
    Conclusion.NOT_INFERIOR: HOLDS,
    Conclusion.INFERIOR: FAILS,
    Conclusion.INCONCLUSIVE: OPEN,
}
_DEPLOYED = (Stage.COMPRESSED, Stage.OPTIMIZED)


def scores_table(document: Facts) -> Html:
    """A row for each dev split; `document` is `run_document`."""
    terms = document["gate"]["terms"]
    caption = (
        f"A drop of {100 * terms['margin']:g} points matters; every limit holds with "
        f"{100 * terms['confidence']:g} % confidence. Conclusions are corrected for the number of "
        "dev sets (Holm)."
    )
    rows = (tuple(_cells(document, split)) for split in document["splits"])
    return table(caption, _HEADINGS, rows)


def conclusion(name: str) -> Html:
    """One of `Conclusion` and its mark."""
    return _MARKS[Conclusion(name)](name)


def statistics_told(document: Facts, split: Facts) -> Iterator[Html]:
    """What each change of the score was, how it was tested, and what was and was not shown."""
    if compression := statistics_of(split, Stage.DENSE, Stage.COMPRESSED):
        yield _change("Compression, which is not judged", compression)
    if deployment := statistics_of(split, *_DEPLOYED):
        yield _change("Deployment", deployment)
        reasons = (f"{each['sentence']}." for each in deployment["reasons"])
        yield bullets((*reasons, deployment["power"]["sentence"]))
        yield from _adjusted(document, split)


def _change(cause: str, found: Facts) -> Html:
    return element("p", f"{cause}: ", *_difference(found), f"; {found['method']}.")


def _adjusted(document: Facts, split: Facts) -> Iterator[Html]:
    members = document["family"]["members"] if document["family"] else {}
    if len(members) > 1 and split_name(split) in members:
        claims = members[split_name(split)]["adjusted"].items()
        parts = (joined((f"{claim}: p = ", figure(p_value, ".2g"))) for claim, p_value in claims)
        yield element("p", f"Corrected for {len(members)} dev sets: ", joined(parts, "; "), ".")


def _cells(document: Facts, split: Facts) -> Iterator[str]:
    dataset = split["dataset"]
    size = () if dataset is None else _size(dataset)
    yield joined((split_name(split), *size))
    yield joined((_score(split, stage) for stage in _DEPLOYED), " → ")
    found = statistics_of(split, *_DEPLOYED)
    yield joined(_difference(found)) if found else "–"
    yield _concluded(document, split, found)
    yield joined(_changed(split))
    yield joined(_power(found)) if found else "–"
    yield holds(split["ok"])("passed" if split["ok"] else "failed")


def _size(dataset: Facts) -> Sequence[str]:
    examples = figure(dataset["examples"], "d")
    told = f" examples, {dataset['primary_metric']}"
    return (element("span", examples, told, class_="quiet below"),)


def _score(split: Facts, stage: Stage) -> Html:
    rung = split["rungs"].get(stage.value)
    return Html("not run") if rung is None else figure(rung["primary"], ".4f", absent="no number")


def _difference(found: Facts) -> Iterator[str]:
    yield figure(found["difference"], "+.2f", unit=100)
    yield " points, "
    yield figure(found["lower"], "+.2f", unit=100)
    yield " to "
    yield figure(found["upper"], "+.2f", unit=100)


def _concluded(document: Facts, split: Facts, found: Facts | None) -> Html:
    members = document["family"]["members"] if document["family"] else {}
    member = members.get(split_name(split))
    if found is None or member is None:
        step = step_of(split, *_DEPLOYED)
        statistics = step["statistics"] if step else None
        return joined((OPEN("not compared"), f": {statistics['reason']}" if statistics else ""))
    alone = found["conclusion"]
    more = "" if alone == member["conclusion"] else f" (alone: {alone})"
    return joined((conclusion(member["conclusion"]), more))


def _changed(split: Facts) -> Iterator[str]:
    deployed = step_of(split, *_DEPLOYED)
    written = step_of(split, Stage.COMPRESSED, Stage.WRITTEN)
    yield "not compared" if deployed is None else str(len(deployed["comparison"]["changes"]))
    if written is not None:
        yield f"; in ONNX as written {len(written['unexplained'])} unexplained"


def _power(found: Facts) -> Iterator[str]:
    yield figure(found["power"]["floor"], ".2f", unit=100)
    yield " points; with as many changes as seen "
    yield figure(found["power"]["detectable"], ".2f", unit=100)
