"""The log of a compression run in, one self-contained SVG of its course out.

Three panels over the optimizer steps: the task's metric against the dense model's, how far ADMM is
from agreement, and the loss. Colours follow the reader's light or dark theme.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from nxmi_export.report.line_chart import LEFT, PLOT_WIDTH, RIGHT, Line, Panel, panel_elements
from nxmi_export.report.palette import FONT, themed

__all__ = ["training_plot"]

LOSS_POINTS = 200  # each the mean of its steps; more would be noise on top of the curve
_MARGIN, _HEADING = 16, 34  # pixels

_STYLE = f"""{themed("svg")}text {{ font: 12px {FONT}; fill: var(--text); }}
.heading {{ font-size: 15px; font-weight: 600; }}
.title {{ font-size: 13px; font-weight: 600; }}
.grid {{ stroke: var(--grid); stroke-width: 1; fill: none; }}
polyline {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
polyline.first {{ stroke: var(--first); }} circle.first {{ fill: var(--first); }}
polyline.second {{ stroke: var(--second); }} circle.second {{ fill: var(--second); }}
polyline.third {{ stroke: var(--third); }} circle.third {{ fill: var(--third); }}
polyline.reference {{ stroke: var(--reference); stroke-dasharray: 6 4; }}
"""

Entry = Mapping[str, Any]


def training_plot(entries: Sequence[Entry], *, title: str, metric: str, dense: float | None) -> str:
    """The SVG document; `entries` are the lines of the run's log, at least one step among them.

    `metric` names the task's primary metric in words and `dense` is what the dense model reaches.
    Values that are not numbers leave gaps.
    """
    epochs = [entry for entry in entries if entry["event"] == "epoch"]
    steps = [entry for entry in entries if entry["event"] == "step"]
    last = max(entry["step"] for entry in entries)
    panels = [
        panel
        for panel in (
            _metric_panel(epochs, metric, dense, last),
            _residual_panel(epochs),
            _loss_panel(steps),
        )
        if panel.lines
    ]
    width = LEFT + PLOT_WIDTH + RIGHT
    height = _HEADING + sum(panel.outer_height for panel in panels) + _MARGIN
    body = [f'<text class="heading" x="{LEFT}" y="24">{escape(title)}</text>']
    top = float(_HEADING)
    for panel in panels:
        body += panel_elements(panel, top, last, "step")
        top += panel.outer_height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">'
    )
    name = f"<title>{escape(title)}</title>"
    return "\n".join([head, name, f"<style>{_STYLE}</style>", *body, "</svg>", ""])


def _metric_panel(epochs: Sequence[Entry], metric: str, dense: float | None, last: int) -> Panel:
    lines = [
        Line("as trained", "first", _metric_points(epochs, "metrics"), markers=True),
        Line("if projected", "second", _metric_points(epochs, "projected"), markers=True),
    ]
    lines = [line for line in lines if line.points]
    if lines and dense is not None:
        lines.append(Line("dense model", "reference", [(0, dense), (last, dense)]))
    return Panel(metric, lines, height=190)


def _metric_points(epochs: Sequence[Entry], key: str) -> list[tuple[float, float]]:
    found = ((entry["step"], list(entry[key].values())) for entry in epochs)
    return [
        (step, statistics.fmean(values))
        for step, values in found
        if values and all(value is not None for value in values)
    ]


def _residual_panel(epochs: Sequence[Entry]) -> Panel:
    names = {
        "primal": "primal ‖W − Z‖ / ‖W‖",
        "dual": "dual ρ‖ΔZ‖ / ‖W‖",
        "churn": "mask churn",
    }
    lines = []
    for (key, name), style in zip(names.items(), ("first", "second", "third"), strict=True):
        reported = ((entry["step"], (entry["residuals"] or {}).get(key)) for entry in epochs)
        # A logarithm has no place for zero, which the first dual residual and a settled mask are.
        points = [(step, value) for step, value in reported if value]
        if points:
            lines.append(Line(name, style, points, markers=True))
    return Panel("ADMM residuals", lines, height=170, logarithmic=True)


def _loss_panel(steps: Sequence[Entry]) -> Panel:
    finite = [(entry["step"], entry["loss"]) for entry in steps if entry["loss"] is not None]
    size = -(-len(finite) // LOSS_POINTS) or 1
    groups = [finite[start : start + size] for start in range(0, len(finite), size)]
    points = [
        (
            statistics.fmean(step for step, _ in group),
            statistics.fmean(loss for _, loss in group),
        )
        for group in groups
    ]
    name = "loss" if size == 1 else f"loss, mean of {size}"
    lines = [Line(name, "first", points)] if points else []
    return Panel("training loss, weighted sum of its terms", lines, height=130, with_zero=True)
