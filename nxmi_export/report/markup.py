"""Texts and numbers in, HTML and SVG elements out; what is not markup already is escaped."""

import json
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Html", "bullets", "element", "figure", "joined", "region", "table"]


class Html(str):
    """Markup. A plain `str` is never taken for it, so that no text can become an element."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str) -> Html:
    """One element; `class_` and `aria_label` are the attributes class and aria-label."""
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
    )
    return Html(f"<{tag}{named}>{joined(content)}</{tag}>")


def joined(parts: Iterable[str], separator: str = "") -> Html:
    """The parts one after another, those that are no markup escaped."""
    return Html(separator.join(part if isinstance(part, Html) else escape(part) for part in parts))


def figure(value: float | None, form: str, *, unit: float = 1, absent: str = "–") -> Html:
    """A number as it is read, and exactly as the JSON has it for whoever reads by machine.

    `form` is a format such as ".4f", `unit` what one is written as: 100 for per cent. JSON has null
    for what is no number, and the page then says `absent`.
    """
    if value is None:
        return Html(escape(absent))
    return element("data", f"{unit * value:{form}}", value=json.dumps(value))


def bullets(sentences: Iterable[str]) -> Html:
    """A list; nothing at all where there is nothing to list."""
    items = [element("li", sentence) for sentence in sentences]
    return element("ul", *items) if items else Html("")


def region(label: str, *content: str) -> Html:
    """What may be wider than the page: it scrolls alone, by keyboard too, and has a name."""
    return element("div", *content, class_="scrolls", role="region", aria_label=label, tabindex="0")


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table whose rows become cards on a phone, each cell after its heading.

    A browser takes the meaning of a table away from what is not laid out as one, so the roles are
    spelled out. The first cell of a row names it.
    """
    head = [element("th", each, role="columnheader", scope="col") for each in headings]
    body = [_row(headings, row) for row in rows]
    return region(
        caption,
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", *head, role="row"), role="rowgroup"),
            element("tbody", *body, role="rowgroup"),
            role="table",
        ),
    )


def _row(headings: Sequence[str], row: Sequence[str]) -> Html:
    first, *others = row
    cells = [
        element("td", element("div", cell), role="cell", data_label=heading)
        for heading, cell in zip(headings[1:], others, strict=True)
    ]
    return element("tr", element("th", first, role="rowheader", scope="row"), *cells, role="row")
