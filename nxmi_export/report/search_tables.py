"""A finished search in, the tables a person reads at its end out."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from nxmi_export.report.pareto_chart import size_key
from nxmi_export.report.schemes_in_words import schemes_in_words

__all__ = [
    "FOUND_BY",
    "agreement_in_words",
    "other_winners",
    "ranked_table",
    "search_summary_table",
]

Facts = Mapping[str, Any]

_PREDICTED = {
    "predicted": "as a sum",
    "predicted_with_interactions": "with interactions",
    "predicted_conditionally": "around others",
}
# Where the scored configurations of a search come from.
FOUND_BY = {"component": "within the budget", "layer": "proposed by the solver"}


def ranked_table(facts: Facts) -> Table:
    """One row per kept configuration; `facts` is `SearchResult.as_json()`."""
    key = size_key(facts)
    timed = any(each["seconds"] is not None for each in facts["ranked"])
    table = Table(title=escape(_title(facts)), title_justify="left")
    table.add_column("", justify="right")
    table.add_column("configuration", overflow="fold", ratio=1)
    source = [f"latency, {facts['latency']['source']}"] if timed else []
    headings = ["size", *source, "divergence", "metric"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for each in facts["ranked"]:
        latency = [_latency(each["seconds"])] if timed else []
        numbers = [
            f"{each[key]:.2%}",
            *latency,
            f"{each['divergence']:.5f}",
            _number(each["metric"]),
        ]
        name = f"per {each['origin']}: {schemes_in_words(each['schemes'])}"
        table.add_row(str(each["rank"]), escape(name), *numbers)
    table.caption = (
        f"size {key.replace('_', ' ')}, of the encoder linears in "
        f"float32; metric: {escape(facts['primary_metric'])} before training, "
        f"{_number(facts['dense']['metric'])} for the dense model"
    )
    table.caption_justify = "left"
    return table


def search_summary_table(facts: Facts, files: Mapping[str, str]) -> Table:
    """What was searched, what scoring took, and which files tell more, by what they are."""
    table = Table(title="search", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("budget", escape(facts["budget"]["in_words"]))
    for origin, stops in facts["stops"].items():
        table.add_row(
            f"per {origin}",
            f"{stops['candidates']} configurations {FOUND_BY[origin]} scored, {stops['stopped']} "
            f"of them given up early; {stops['examples']} of {stops['examples_possible']} examples "
            f"needed; one of the best was lost with a probability of at most {stops['error']:g}",
        )
    for origin, told in other_winners(facts).items():
        table.add_row(f"best per {origin}", escape(told))
    if facts["latency"] is not None:
        table.add_row(
            "latency", escape(f"{facts['latency']['source']}, {facts['latency']['device']}")
        )
    for origin, sets in facts["agreement"].items():
        table.add_row(f"predicted per {origin}", "; ".join(map(agreement_in_words, sets.items())))
    for remark in facts["remarks"]:
        table.add_row("note", escape(remark))
    table.add_row("took", f"{facts['seconds']:.0f} s")
    for what, path in files.items():
        table.add_row(what, escape(path))
    return table


def other_winners(facts: Facts) -> dict[str, str]:
    """The best of each search that is not among the ranked: its place, what it costs, its file."""
    return {
        origin: f"rank {each['rank']}, divergence {each['divergence']:.4g}, {each['recipe']}"
        for origin, each in facts["winners"].items()
        if each["rank"] > len(facts["ranked"])
    }


def agreement_in_words(named: tuple[str, Mapping[str, Any]]) -> str:
    """As in "all 20: Spearman 0.31 as a sum, 0.45 with interactions"."""
    which, found = named
    count = next(iter(found.values()))["configurations"]
    told = [
        f"{'–' if each['spearman'] is None else format(each['spearman'], '.2f')} {_PREDICTED[name]}"
        for name, each in found.items()
    ]
    return f"{which} {count}: Spearman {', '.join(told)}"


def _title(facts: Facts) -> str:
    return f"{facts['task']}, {facts['budget']['in_words']}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _latency(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.3g} ms"
