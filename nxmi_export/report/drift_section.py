"""A parity run's JSON in, where and why its rungs drift from each other, as markup, out."""

from collections.abc import Iterator

from nxmi_export.report.drift_chart import drift_chart
from nxmi_export.report.markup import Html, element, joined, table
from nxmi_export.report.parity_facts import FAILS, HOLDS, Facts, split_name

__all__ = ["drift_section"]

_HEADINGS = ("rung", "first layer beyond rounding", "cause", "why")


def drift_section(document: Facts) -> tuple[Html, ...]:
    """For each dev split a row a rung, and the errors of the layers; nothing where not measured."""
    return tuple(part for split in document["splits"] for part in _split(split))


def _split(split: Facts) -> Iterator[Html]:
    if not split["drift"] and not split["layer_errors"]:
        return
    yield element("h3", split_name(split))
    if split["drift"]:
        yield table("Drift from compressed PyTorch", _HEADINGS, map(_row, _named(split)))
    for found in split["layer_errors"]:
        sides = (split["rungs"][found[side]]["name"] for side in ("reference", "candidate"))
        yield element("p", f"{' → '.join(sides)}, each running freely:")
        yield drift_chart(found["points"])


def _named(split: Facts) -> Iterator[tuple[str, Facts]]:
    for stage, found in split["drift"].items():
        yield split["rungs"][stage]["name"], found


def _row(named: tuple[str, Facts]) -> tuple[str, Html, str, str]:
    name, found = named
    first = HOLDS("none") if found["explained"] else FAILS(found["first_layer"])
    reason = found["reason"] or "No code and no stored number differs."
    return name, joined((first,)), found["cause"] or "none", reason
