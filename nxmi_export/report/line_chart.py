"""Lines over one shared axis in, the SVG elements of one panel out: axes, grid, curves, legend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["LEFT", "PLOT_WIDTH", "RIGHT", "Line", "Panel", "panel_elements"]

LEFT, PLOT_WIDTH, RIGHT = 74, 640, 176  # pixels; tick labels left, names of the lines right
_ABOVE, _BELOW = 30, 26  # of the plotting area: the panel's title, the ticks of the shared axis
_LEGEND_STEP = 18  # pixels between two names
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """One curve: (x, y) points from left to right."""

    name: str
    style: str  # the CSS class that colours it
    points: Sequence[tuple[float, float]]
    markers: bool = False  # a dot at each point, for few points


@dataclass(frozen=True)
class Panel:
    """Curves that share a vertical axis."""

    title: str
    lines: Sequence[Line]
    height: int  # pixels of the plotting area
    logarithmic: bool = False  # all values are then positive
    with_zero: bool = False

    @property
    def outer_height(self) -> int:
        """Pixels with title and tick labels."""
        return self.height + _ABOVE + _BELOW


def panel_elements(panel: Panel, top: float, right_end: float, axis_name: str) -> list[str]:
    """SVG elements of a panel whose upper edge is at `top`; x runs from 0 to `right_end`."""
    values = [y for line in panel.lines for _, y in line.points]
    ticks = _log_ticks(values) if panel.logarithmic else _ticks(values, panel.with_zero)
    low, high = min(ticks), max(ticks)
    base = top + _ABOVE + panel.height

    def place(x: float, y: float) -> str:
        share = (
            math.log(y / low) / math.log(high / low)
            if panel.logarithmic
            else (y - low) / (high - low)
        )
        return f"{LEFT + PLOT_WIDTH * x / right_end:.1f},{base - panel.height * share:.1f}"

    elements = [f'<text class="title" x="{LEFT}" y="{top + 18:.1f}">{escape(panel.title)}</text>']
    for tick in ticks:
        y = float(place(0, tick).split(",")[1])
        elements.append(f'<path class="grid" d="M{LEFT},{y} h{PLOT_WIDTH}"/>')
        elements.append(_text("end", LEFT - 8, y + 4, _label(tick, ticks, panel.logarithmic)))
    for tick in _whole_ticks(right_end):
        x = LEFT + PLOT_WIDTH * tick / right_end
        elements.append(f'<path class="grid" d="M{x:.1f},{base:.1f} v4"/>')
        elements.append(_text("middle", x, base + 18, f"{tick:g}"))
    elements.append(_text("start", LEFT + PLOT_WIDTH + 39, base + 18, axis_name))
    for number, line in enumerate(panel.lines):
        elements += _curve(line, [place(x, y) for x, y in line.points])
        elements += _legend(line, top + _ABOVE + 8 + _LEGEND_STEP * number)
    return elements


def _curve(line: Line, places: Sequence[str]) -> list[str]:
    curve = [f'<polyline class="{line.style}" points="{" ".join(places)}"/>']
    if line.markers:
        centres = (each.split(",") for each in places)
        curve += [f'<circle class="{line.style}" cx="{x}" cy="{y}" r="3"/>' for x, y in centres]
    return curve


def _legend(line: Line, y: float) -> list[str]:
    x = LEFT + PLOT_WIDTH + 14
    return [
        f'<polyline class="{line.style}" points="{x},{y:.1f} {x + 18},{y:.1f}"/>',
        _text("start", x + 25, y + 4, line.name),
    ]


def _text(anchor: str, x: float, y: float, text: str) -> str:
    return f'<text text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _ticks(values: Sequence[float], with_zero: bool) -> list[float]:
    """Round numbers that span the values."""
    low, high = min(values), max(values)
    low = min(low, 0.0) if with_zero else low
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        margin = abs(high) / 10 or 1.0
        low, high = low - margin, high + margin
    step = _round_step((high - low) / _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10 … of the decades that the values touch; powers of ten alone where many."""
    low, high = math.log10(min(values)), math.log10(max(values))
    steps = (1, 2, 5) if high - low < 2 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 2)
    candidates = [step * 10.0**decade for decade in decades for step in steps]
    below = [each for each in candidates if each <= min(values) * (1 + 1e-9)]
    above = [each for each in candidates if each >= max(values) and each > below[-1]]
    return [each for each in candidates if below[-1] <= each <= above[0]]


def _whole_ticks(end: float) -> list[float]:
    step = max(1.0, _round_step(end / _TICKS))
    return [number * step for number in range(int(end / step) + 1)]


def _round_step(raw: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def _label(tick: float, ticks: Sequence[float], logarithmic: bool) -> str:
    if logarithmic:
        return f"{tick:g}"
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{tick + 0.0:.{digits}f}"
