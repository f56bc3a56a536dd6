"""A finished search in, one self-contained SVG of what every size (or time) costs out.

A panel each of size and latency against the divergence, and against the task's metric: what the
solver takes at every size, what else was scored, which candidates were kept, and what one scheme
everywhere costs. All of it was scored on the whole slice. Colours follow the reader's theme.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from xml.sax.saxutils import escape

from nxmi_export.report.palette import FONT, themed
from nxmi_export.report.scatter_chart import Limit, Mark, Scatter, Series, scatter_elements
from nxmi_export.report.schemes_in_words import schemes_in_words

__all__ = ["NARROW", "WIDE", "divergence_in_words", "pareto_chart", "size_key"]

WIDE, NARROW = 860, 340  # pixels: a desktop's page, a phone's
_HEADING, _GAP = 32, 16  # pixels: the picture's title, the space below every panel

_STYLE = f"""{themed("svg")}text {{ font: 12px {FONT}; fill: var(--text); }}
.heading {{ font-size: 15px; font-weight: 600; }}
.title {{ font-size: 13px; font-weight: 600; }}
.grid {{ stroke: var(--grid); stroke-width: 1; fill: none; }}
.dashed, .dotted {{ stroke: var(--reference); stroke-width: 1.5; fill: none; }}
.dashed {{ stroke-dasharray: 6 4; }}
.dotted {{ stroke-width: 2; stroke-dasharray: 1 4; stroke-linecap: round; }}
polyline.line {{ fill: none; stroke: var(--first); stroke-width: 2; stroke-linejoin: round; }}
circle.line {{ fill: var(--first); }}
circle.cloud {{ fill: var(--reference); opacity: 0.4; }}
circle.numbered {{ fill: var(--second); stroke: var(--ground); stroke-width: 1; }}
text.number {{ font-size: 10px; font-weight: 700; fill: var(--ground); }}
path.labelled {{ fill: var(--third); }}
"""

Facts = Mapping[str, Any]


def pareto_chart(facts: Facts, width: int = WIDE) -> str:
    """The SVG document; `facts` is `SearchResult.as_json()`, and `width` is in pixels.

    On the logarithmic axis of divergences there is no place for zero: what does not diverge at
    all is left out. A result without anything to place is told in words.
    """
    panels = list(_panels(facts))
    title = f"{facts['task']}: {facts['budget']['in_words']}"
    heading = title if width >= WIDE else facts["task"]
    body = [f'<text class="heading" x="8" y="22">{escape(heading)}</text>']
    top = float(_HEADING)
    for panel in panels:
        body += scatter_elements(panel, top, width)
        top += panel.height(width) + _GAP
    if not panels:
        body.append(f'<text x="8" y="{top + 16}">no candidate differs from the dense model</text>')
        top += 32
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top:g}" '
        f'width="{width}" height="{top:g}" role="img">'
    )
    name = f"<title>{escape(title)}</title>"
    return "\n".join([head, name, f"<style>{_STYLE}</style>", *body, "</svg>", ""])


def divergence_in_words(facts: Facts) -> str:
    """What is meant by the divergence of a task's outputs from the dense model's."""
    regression = facts["is_regression"]
    return "squared difference from dense" if regression else "KL divergence from dense (nats)"


def size_key(facts: Facts) -> Literal["nominal", "with_metadata"]:
    """The size that the budget counts; with metadata where only latency is limited."""
    size = facts["budget"]["size"]
    return "with_metadata" if size is None or size["metadata"] else "nominal"


def _panels(facts: Facts) -> Iterator[Scatter]:
    """Those of which there is anything to show."""
    sweeps = [_by_size(facts), _by_latency(facts)]
    panels = [panel(facts, sweep) for panel in (_divergences, _metrics) for sweep in sweeps]
    for panel in panels:
        series = [each for each in panel.series if each.marks]
        if any(each.kind != "line" for each in series):
            yield replace(panel, series=series)


@dataclass(frozen=True)
class _Sweep:
    """One horizontal axis: what it counts, its frontier, and where the budget lies on it."""

    across: str
    x: Callable[[Facts], float | None]
    frontier: Sequence[Facts]
    limits: Sequence[Limit]

    def marks(self, entries: Iterable[Facts], y: str, *, positive: bool) -> list[Mark]:
        """A mark of every entry that both axes have a place for."""
        marks = []
        for entry in entries:
            x, height = self.x(entry), entry[y]
            if x is not None and height is not None and (height > 0 or not positive):
                marks.append(Mark(x, height, _told(entry), str(entry.get("rank", ""))))
        return marks


def _by_size(facts: Facts) -> _Sweep:
    key, budget = size_key(facts), facts["budget"]["size"]
    frontier = [each for each in facts["frontier"] if each["swept"] == "size"]
    return _Sweep(
        f"size in % of float32, {key.replace('_', ' ')}",
        lambda entry: 100 * entry[key],
        frontier,
        [] if budget is None else [Limit("budget", "x", 100 * budget["target"])],
    )


def _by_latency(facts: Facts) -> _Sweep:
    budget = facts["budget"]["latency"]
    frontier = [each for each in facts["frontier"] if each["swept"] == "seconds"]
    source = (facts["latency"] or {}).get("source", "")
    limit = [] if budget is None else [Limit("budget", "x", 1000 * budget["seconds"])]
    dense = facts["dense"].get("seconds")
    limit += [] if dense is None else [Limit("dense model", "x", 1000 * dense, dotted=True)]
    return _Sweep(f"latency in ms, {source}", _milliseconds, frontier, limit)


def _milliseconds(entry: Facts) -> float | None:
    return None if entry["seconds"] is None else 1000 * float(entry["seconds"])


def _divergences(facts: Facts, sweep: _Sweep) -> Scatter:
    series = _series(facts, sweep, "divergence", positive=True)
    return Scatter(divergence_in_words(facts), sweep.across, series, sweep.limits, logarithmic=True)


def _metrics(facts: Facts, sweep: _Sweep) -> Scatter:
    series = _series(facts, sweep, "metric", positive=False)
    dense = facts["dense"]["metric"]
    limits = [] if dense is None else [Limit("dense model", "y", dense, dotted=True)]
    title = f"{facts['primary_metric']}, before training"
    return Scatter(title, sweep.across, series, [*sweep.limits, *limits])


def _series(facts: Facts, sweep: _Sweep, y: str, *, positive: bool) -> list[Series]:
    return [
        Series("the solver's choice", "line", sweep.marks(sweep.frontier, y, positive=positive)),
        Series("scored", "cloud", sweep.marks(facts["measured"], y, positive=positive)),
        Series(
            "one scheme",
            "labelled",
            [
                replace(mark, label=each["scheme"])
                for each in facts["uniform"]
                for mark in sweep.marks([each], y, positive=positive)
            ],
        ),
        Series("ranked", "numbered", sweep.marks(facts["ranked"], y, positive=positive)),
    ]


def _told(entry: Facts) -> str:
    """What a pointer over a mark reads."""
    parts = [schemes_in_words(entry["schemes"])]
    parts.append(f"{entry['with_metadata']:.2%} with metadata, {entry['nominal']:.2%} nominal")
    if entry["seconds"] is not None:
        parts.append(f"{1000 * entry['seconds']:.3g} ms")
    found = {key: entry.get(key) for key in ("divergence", "predicted", "metric")}
    parts += [f"{key} {value:.4g}" for key, value in found.items() if value is not None]
    return "\n".join(parts)
