"""Lines over one shared axis in, the SVG elements of one panel out: axes, grid, curves, legend."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from nxmi_export.report.axis import Axis, round_step

__all__ = ["LEFT", "PLOT_WIDTH", "RIGHT", "Line", "Panel", "panel_elements"]

LEFT, PLOT_WIDTH, RIGHT = 74, 640, 176  # pixels; tick labels left, names of the lines right
_ABOVE, _BELOW = 30, 26  # of the plotting area: the panel's title, the ticks of the shared axis
_LEGEND_STEP = 18  # pixels between two names
_TICKS = 5  # of the shared axis


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
    axis = Axis.over(values, logarithmic=panel.logarithmic, with_zero=panel.with_zero)
    base = top + _ABOVE + panel.height

    def place(x: float, y: float) -> str:
        height = panel.height * axis.share(y)
        return f"{LEFT + PLOT_WIDTH * x / right_end:.1f},{base - height:.1f}"

    elements = [f'<text class="title" x="{LEFT}" y="{top + 18:.1f}">{escape(panel.title)}</text>']
    for tick in axis.ticks:
        y = float(place(0, tick).split(",")[1])
        elements.append(f'<path class="grid" d="M{LEFT},{y} h{PLOT_WIDTH}"/>')
        elements.append(_text("end", LEFT - 8, y + 4, axis.label(tick)))
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


def _whole_ticks(end: float) -> list[float]:
    step = max(1.0, round_step(end / _TICKS))
    return [number * step for number in range(int(end / step) + 1)]
