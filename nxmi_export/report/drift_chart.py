"""The drift of every layer between two rungs in, a table with bars out, in order of execution."""

from collections.abc import Iterator, Sequence

from nxmi_export.report.axis import Axis
from nxmi_export.report.markup import Html, element, figure, table
from nxmi_export.report.parity_facts import Facts

__all__ = ["drift_chart"]

_WIDTH = 160  # pixels of the longest bar


def drift_chart(layers: Sequence[Facts]) -> Html:
    """Each of `layers` is {name, max_abs, relative_rms, cosine}; a number may be None.

    The bars are logarithmic, because drift grows by powers of ten where a code first differs. A
    layer without drift has no bar.
    """
    found = [each["relative_rms"] for each in layers if each["relative_rms"]]
    axis = Axis.over(found, logarithmic=True) if found else None
    scale = (
        "" if axis is None else f"; bars from {axis.ticks[0]:g} to {axis.ticks[-1]:g}, by powers"
    )
    return table(
        f"Layers in order of execution: {len(layers)}{scale}",
        ("layer", "relative RMS error", "largest error", "cosine"),
        (tuple(_cells(each, axis)) for each in layers),
    )


def _cells(layer: Facts, axis: Axis | None) -> Iterator[str]:
    yield layer["name"]
    drift = layer["relative_rms"]
    shown = figure(drift, ".3g", absent="no number")
    if axis is not None and drift:
        width = f"width: {_WIDTH * axis.share(drift):.1f}px"
        bar = element("span", class_="bar", style=width, aria_hidden="true")
        shown = Html(f"{shown}{bar}")
    yield shown
    yield figure(layer["max_abs"], ".3g", absent="no number")
    yield figure(layer["cosine"], ".6f", absent="no number")
