"""The content of `bench.json` in, one self-contained SVG of every speed out.

A panel for each shape of batch and each way to batch texts, a bar for each contender that ran: how
many times faster than the baseline, with the 95 % interval. All panels share one axis. Colours
follow the reader's light or dark theme.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from nxmi_export.report.axis import Axis
from nxmi_export.report.bench_table import comparisons
from nxmi_export.report.palette import FONT, themed

__all__ = ["bench_chart"]

_WIDTH, _LEFT, _RIGHT = 860, 250, 96  # pixels; names stand left of the bars, figures right
_MARGIN, _LETTER = 12, 6.6  # pixels left of titles, and of a letter on average
_HEADING, _TITLE, _ROW, _BAR, _GAP, _AXIS = 40, 22, 22, 12, 14, 24  # pixels of height

_STYLE = f"""{themed("svg")}text {{ font: 12px {FONT}; fill: var(--text); }}
.heading {{ font-size: 15px; font-weight: 600; }}
.title {{ font-size: 13px; font-weight: 600; }}
.grid {{ stroke: var(--grid); stroke-width: 1; fill: none; }}
.bar {{ fill: var(--first); }} .baseline {{ fill: var(--reference); }}
.interval {{ stroke: var(--text); stroke-width: 1.5; fill: none; }}
"""


def bench_chart(document: Mapping[str, Any]) -> str:
    """The SVG document; what did not run, or has no speed, has no bar."""
    panels = [(title, _rows(document, found)) for title, found in comparisons(document)]
    rows = [row for _, those in panels for row in those]
    axis = Axis.over([row["high"] or row["median"] for row in rows] or [1.0], with_zero=True)
    baseline = document["contenders"][document["baseline"]]["what"]
    heading = f"Times as fast as {baseline}"
    edge = min([0.0, *(_LEFT - 8 - _MARGIN - _LETTER * len(row["what"]) for row in rows)])
    x = edge + _MARGIN
    body, top = [f'<text class="heading" x="{x:.1f}" y="24">{escape(heading)}</text>'], _HEADING
    bottom = top + sum(_TITLE + _ROW * len(those) + _GAP for _, those in panels)
    for tick in axis.ticks:
        place = _place(axis, tick)
        body.append(f'<path class="grid" d="M{place:.1f},{top} V{bottom}"/>')
        body.append(_text(place, bottom + 16, axis.label(tick), anchor="middle"))
    for title, those in panels:
        body.append(f'<text class="title" x="{x:.1f}" y="{top + 15}">{escape(title)}</text>')
        top += _TITLE
        for row in those:
            body += _bar(axis, row, top)
            top += _ROW
        top += _GAP
    height, width = bottom + _AXIS, _WIDTH - edge
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{edge:g} 0 {width:g} {height}" '
        f'width="{width:g}" height="{height}" role="img">'
    )
    name = f"<title>{escape(heading)}</title>"
    return "\n".join([head, name, f"<style>{_STYLE}</style>", *body, "</svg>", ""])


def _rows(document: Mapping[str, Any], found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "what": document["contenders"][key]["what"],
            "style": "baseline" if key == document["baseline"] else "bar",
            **each["speedup"],
        }
        for key, each in found["results"].items()
        if each["ran"] and each["speedup"]
    ]


def _bar(axis: Axis, row: Mapping[str, Any], top: float) -> Iterator[str]:
    middle, end = top + _ROW / 2, _place(axis, row["median"])
    yield _text(_LEFT - 8, middle + 4, row["what"], anchor="end")
    y, width = middle - _BAR / 2, end - _LEFT
    yield f'<rect class="{row["style"]}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}"/>'
    if row["low"] is not None:
        low, high = (_place(axis, row[name]) for name in ("low", "high"))
        end = max(end, high)
        yield f'<path class="interval" d="M{low:.1f},{middle} H{high:.1f}"/>'
    yield _text(end + 6, middle + 4, f"{row['median']:.2f}×", anchor="start")


def _place(axis: Axis, value: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * axis.share(value)


def _text(x: float, y: float, text: str, *, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
