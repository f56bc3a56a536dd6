"""A finished search in, one self-contained HTML page out: nothing is loaded from elsewhere.

What was asked, what was found, the picture of it, every kept configuration with its schemes, how
to train the best, and where the numbers come from. It follows the reader's theme and fits a phone.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from nxmi_export.report.palette import FONT, themed
from nxmi_export.report.pareto_chart import NARROW, divergence_in_words, pareto_chart
from nxmi_export.report.scheme_map import MAP_STYLE, by_block, scheme_map
from nxmi_export.report.search_tables import FOUND_BY, agreement_in_words, other_winners

__all__ = ["search_page"]

_STYLE = f"""{themed("html")}
html {{ color-scheme: light dark; }}
* {{ box-sizing: border-box; }}
body {{ font: 15px/1.5 {FONT}; color: var(--text); max-width: 900px; margin: 0 auto;
  padding: 20px; }}
h1 {{ font-size: 22px; margin: 0; }} h2 {{ font-size: 17px; margin: 34px 0 10px; }}
h3 {{ font-size: 15px; margin: 20px 0 4px; }}
p {{ margin: 6px 0; }} .quiet {{ color: var(--reference); }}
.figures {{ display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0; padding: 0; }}
.figures div {{ flex: 1 1 150px; border: 1px solid var(--grid); border-radius: 8px;
  padding: 8px 12px; }}
.figures dt {{ font-size: 13px; color: var(--reference); }}
.figures dd {{ margin: 0; font-size: 18px; font-weight: 600; }}
.scrolls {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--grid);
  white-space: nowrap; }}
th {{ font-weight: 600; font-size: 13px; }}
th:first-child, td:first-child {{ text-align: left; }}
.ranked td:nth-child(2), .ranked th:nth-child(2) {{ text-align: left; }}
.facts td {{ text-align: left; white-space: normal; overflow-wrap: anywhere; }}
.facts td:first-child {{ white-space: nowrap; vertical-align: top; font-weight: 600; }}
pre {{ border: 1px solid var(--grid); border-radius: 8px; padding: 10px 12px; margin: 8px 0;
  overflow-x: auto; font-size: 13px; }}
svg {{ max-width: 100%; height: auto; display: block; }} .narrow {{ display: none; }}
@media (max-width: 640px) {{ body {{ padding: 14px; }}
.wide {{ display: none; }} .narrow {{ display: block; }} }}
{MAP_STYLE}"""

Facts = Mapping[str, Any]
USUAL_LENGTH = 128  # tokens, if `compress` is not told otherwise


def search_page(facts: Facts) -> str:
    """The HTML document; `facts` is `SearchResult.as_json()`."""
    title = escape(f"Search: {facts['task']}, {facts['budget']['in_words']}")
    sections = (
        f"<h1>{escape(facts['task'])}: {escape(facts['budget']['in_words'])}</h1>",
        *_opening(facts),
        "<h2>Size and what it costs</h2>",
        f'<div class="wide">{pareto_chart(facts)}</div>',
        f'<div class="narrow">{pareto_chart(facts, NARROW)}</div>',
        *_reading(facts),
        "<h2>Ranked</h2>",
        *_ranked(facts),
        "<h2>Train the best</h2>",
        *_training(facts),
        "<h2>Where this comes from</h2>",
        *_provenance(facts),
    )
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            *sections,
            "</body></html>\n",
        )
    )


def _opening(facts: Facts) -> Iterator[str]:
    best = facts["ranked"][0]
    dense = facts["dense"]["metric"]
    figures = {
        "best found": f"per {best['origin']}",
        "size with metadata": f"{best['with_metadata']:.2%}",
        "nominal size": f"{best['nominal']:.2%}",
        "its divergence": f"{best['divergence']:.4g}",
        "its metric, untrained": _number(best["metric"]),
        "dense model": _number(dense),
    }
    if best["seconds"] is not None:
        figures["its latency"] = f"{1000 * best['seconds']:.3g} ms, {facts['latency']['source']}"
    yield (
        f'<p class="quiet">{escape(facts["source"]["path"])}, {facts["source"]["architecture"]}; '
        f"metric: {escape(facts['primary_metric'])}, on examples of the train set that nothing was "
        "calibrated on</p>"
    )
    cells = (f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())
    yield f'<dl class="figures">{"".join(cells)}</dl>'
    yield from (f'<p class="quiet">Note: {escape(each)}.</p>' for each in facts["remarks"])


def _reading(facts: Facts) -> Iterator[str]:
    yield (
        '<p class="quiet">Sizes are shares of the encoder linears in float32. Every mark was '
        "scored on the whole slice, without training; the line is what the solver takes at each "
        "size or latency, by what each scheme costs alone. The lower the divergence, the closer to "
        "the dense model.</p>"
    )
    for origin, stops in facts["stops"].items():
        yield (
            f'<p class="quiet">Per {origin}: {stops["candidates"]} configurations '
            f"{FOUND_BY[origin]}, {stops['stopped']} of them given up early; "
            f"{_share(stops['examples'], stops['examples_possible'])} of the examples needed; "
            f"probability that this lost one of the best: at most {stops['error']:g}.</p>"
        )

    for origin, sets in facts["agreement"].items():
        told = "; ".join(map(agreement_in_words, sets.items()))
        yield (
            f'<p class="quiet">How predictions per {origin} order what was scored completely: '
            f"{told}.</p>"
        )


def _ranked(facts: Facts) -> Iterator[str]:
    has_latency = any(each["seconds"] is not None for each in facts["ranked"])
    source = [f"latency, {facts['latency']['source']}"] if has_latency else []
    headings = ["", "search", "size", "nominal", *source]
    headings += ["divergence", "predicted", "metric", "recipe"]
    yield '<div class="scrolls"><table class="ranked"><tr>'
    yield "".join(f"<th>{each}</th>" for each in headings) + "</tr>"
    for each in facts["ranked"]:
        latency = [_milliseconds(each["seconds"])] if has_latency else []
        cells = [f"{each['rank']}", f"per {each['origin']}", f"{each['with_metadata']:.2%}"]
        cells += [f"{each['nominal']:.2%}", *latency, f"{each['divergence']:.4g}"]
        cells += [f"{each['predicted']:.4g}", _number(each["metric"]), escape(each["recipe"])]
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    yield "</table></div>"
    for origin, told in other_winners(facts).items():
        yield f'<p class="quiet">The best per {origin}: {escape(told)}.</p>'
    yield f'<p class="quiet">Divergence: {divergence_in_words(facts)}.</p>'
    yield from _maps(facts["ranked"])


def _maps(ranked: Sequence[Facts]) -> Iterator[str]:
    """Those of whole components as rows of one table, the others as tables of blocks."""
    rows = {f"{each['rank']}": each["schemes"] for each in ranked if each["origin"] == "component"}
    if rows:
        yield f"<h3>Schemes, the same in every block</h3>{scheme_map(rows)}"
    for each in ranked:
        if each["origin"] == "layer":
            yield f"<h3>Schemes of {each['rank']}</h3>{scheme_map(by_block(each['schemes']))}"


def _training(facts: Facts) -> Iterator[str]:
    source, length = facts["source"], facts["options"]["max_length"]
    command = ["nxmi-export", "compress", source["model"], "--task", facts["task_argument"]]
    command += ["--base", source["base"]] if source["base"] is not None else []
    command += ["--max-length", f"{length}"] if length != USUAL_LENGTH else []
    command += ["--recipe", facts["ranked"][0]["recipe"], "-o", "model.pt"]
    yield "<p>In the folder of this page, with <code>--data</code> as for the search:</p>"
    yield f"<pre>{escape(shlex.join(command))}</pre>"


def _provenance(facts: Facts) -> Iterator[str]:
    rows = dict(_flat({key: facts[key] for key in ("options", "source", "data", "latency")}))
    rows |= dict(_flat({"versions": facts["versions"]}))
    rows["seconds"] = f"{facts['seconds']:.0f}"
    cells = (
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows.items()
    )
    yield f'<div class="scrolls"><table class="facts">{"".join(cells)}</table></div>'


def _flat(facts: Facts, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as rows: "data slice examples" and its value."""
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
        elif value is not None:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.3g} ms"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"
