"""Marks on two axes of their own in, the SVG elements of one panel out: legend, axes, marks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

from nxmi_export.report.axis import Axis

__all__ = ["HEIGHT", "LEFT", "RIGHT", "Limit", "Mark", "Scatter", "Series", "scatter_elements"]

LEFT, RIGHT = 58, 18  # pixels beside the plotting area; tick labels stand at its left
HEIGHT = 250  # of the plotting area
_TITLE, _LEGEND_ROW, _GAP, _ACROSS = 24, 18, 12, 44  # pixels: title, row of names, gap, axis
_LETTER = 6.6  # pixels a letter takes at most, of the fonts in use


@dataclass(frozen=True)
class Mark:
    """One point; `text` is what a pointer over it reads, `label` what stands at it."""

    x: float
    y: float
    text: str = ""
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Marks of one kind.

    A `line` joins its marks from left to right, a `cloud` is pale, `numbered` marks bear their
    label inside and `labelled` ones beside them.
    """

    name: str
    kind: Literal["line", "cloud", "numbered", "labelled"]
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Limit:
    """A dashed or dotted line across the panel at one value of an axis."""

    name: str
    axis: Literal["x", "y"]
    value: float
    dotted: bool = False

    @property
    def style(self) -> str:
        """The CSS class of the line."""
        return "dotted" if self.dotted else "dashed"


@dataclass(frozen=True)
class Scatter:
    """What one panel shows; at least one mark."""

    title: str
    across: str  # names the horizontal axis
    series: Sequence[Series]
    limits: Sequence[Limit] = ()
    logarithmic: bool = False  # the vertical axis; all values are then positive

    def height(self, width: int) -> int:
        """Pixels with title, legend and axis, where the picture is `width` pixels wide."""
        rows = max(row for row, _, _ in _legend_places(self, width)) + 1
        return _TITLE + rows * _LEGEND_ROW + _GAP + HEIGHT + _ACROSS


@dataclass(frozen=True)
class _Frame:
    """The plotting area in pixels, and the axes that it has."""

    left: float
    top: float
    width: float
    x: Axis
    y: Axis

    @property
    def base(self) -> float:
        return self.top + HEIGHT

    def across(self, value: float) -> float:
        return self.left + self.width * self.x.share(value)

    def up(self, value: float) -> float:
        return self.base - HEIGHT * self.y.share(value)


def scatter_elements(panel: Scatter, top: float, width: int) -> list[str]:
    """SVG elements of a panel whose upper edge is at `top`, in a picture `width` pixels wide."""
    marks = [mark for each in panel.series for mark in each.marks]
    xs = [mark.x for mark in marks] + [each.value for each in panel.limits if each.axis == "x"]
    ys = [mark.y for mark in marks] + [each.value for each in panel.limits if each.axis == "y"]
    frame = _Frame(
        LEFT,
        top + panel.height(width) - HEIGHT - _ACROSS,
        width - LEFT - RIGHT,
        Axis.over(xs),
        Axis.over(ys, logarithmic=panel.logarithmic),
    )
    elements = [_text("start", 8, top + 16, panel.title, "title")]
    elements += _legend(panel, top + _TITLE, width)
    elements += _axes(frame, panel.across)
    for limit in panel.limits:
        elements.append(_limit(frame, limit))
    for series in panel.series:
        elements += _series(frame, series)
    return elements


def _axes(frame: _Frame, across: str) -> list[str]:
    elements = []
    for tick in frame.y.ticks:
        y = frame.up(tick)
        elements.append(f'<path class="grid" d="M{frame.left},{y:.1f} h{frame.width}"/>')
        elements.append(_text("end", frame.left - 8, y + 4, frame.y.label(tick)))
    for tick in frame.x.ticks:
        x = frame.across(tick)
        elements.append(f'<path class="grid" d="M{x:.1f},{frame.base:.1f} v4"/>')
        elements.append(_text("middle", x, frame.base + 18, frame.x.label(tick)))
    middle = frame.left + frame.width / 2
    return [*elements, _text("middle", middle, frame.base + 36, across)]


def _limit(frame: _Frame, limit: Limit) -> str:
    if limit.axis == "x":
        path = f"M{frame.across(limit.value):.1f},{frame.top} v{HEIGHT}"
    else:
        path = f"M{frame.left},{frame.up(limit.value):.1f} h{frame.width}"
    return f'<path class="{limit.style}" d="{path}"/>'


def _series(frame: _Frame, series: Series) -> Iterable[str]:
    places = [(frame.across(mark.x), frame.up(mark.y), mark) for mark in series.marks]
    if series.kind == "line":
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in sorted(places, key=lambda at: at[0]))
        yield f'<polyline class="line" points="{points}"/>'
    # The first mark is drawn last, so that rank 1 lies on top of its neighbours.
    for x, y, mark in reversed(places):
        yield _mark(series.kind, x, y, mark.text)
        if series.kind == "numbered":
            yield _text("middle", x, y + 4, mark.label, "number")
        elif mark.label:
            yield _beside(frame, x, y, mark.label)


def _beside(frame: _Frame, x: float, y: float, label: str) -> str:
    """A label at the right of its mark, or at its left where the panel ends."""
    if x + 10 + _LETTER * len(label) <= frame.left + frame.width + RIGHT:
        return _text("start", x + 9, y + 4, label)
    return _text("end", x - 9, y + 4, label)


def _mark(kind: str, x: float, y: float, text: str = "") -> str:
    title = f"<title>{escape(text)}</title>" if text else ""
    if kind == "labelled":
        return f'<path class="labelled" d="M{x:.1f},{y - 6:.1f} l6,6 l-6,6 l-6,-6 z">{title}</path>'
    radius = {"line": 2.5, "cloud": 3, "numbered": 8}[kind]
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>'


def _legend(panel: Scatter, top: float, width: int) -> Iterable[str]:
    kinds = {each.name: each.kind for each in panel.series}
    lines = {each.name: each.style for each in panel.limits}
    for row, x, name in _legend_places(panel, width):
        y = top + row * _LEGEND_ROW + 8
        if name in lines:
            yield f'<path class="{lines[name]}" d="M{x},{y:.1f} h18"/>'
        else:
            if kinds[name] == "line":
                yield f'<polyline class="line" points="{x},{y:.1f} {x + 18},{y:.1f}"/>'
            yield _mark(kinds[name], x + 9, y)
        yield _text("start", x + 24, y + 4, name)


def _legend_places(panel: Scatter, width: int) -> list[tuple[int, int, str]]:
    """Row, left edge in pixels and name of every entry; a row that is full begins another."""
    places: list[tuple[int, int, str]] = []
    row, x = 0, 8
    named = (*(each.name for each in panel.series), *(each.name for each in panel.limits))
    for name in dict.fromkeys(named):
        taken = 24 + round(_LETTER * len(name)) + 16
        if x > 8 and x + taken > width:
            row, x = row + 1, 8
        places.append((row, x, name))
        x += taken
    return places


def _text(anchor: str, x: float, y: float, text: str, style: str = "") -> str:
    style = f' class="{style}"' if style else ""
    return f'<text{style} text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
