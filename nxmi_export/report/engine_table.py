"""The content of engine.json in, what the engine is and what is proved of it out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from nxmi_export.report.tables import megabytes

__all__ = ["engine_table"]

_STYLE = {"proved": "green", "refuted": "bold red", "unproven": "yellow", "not claimed": "dim"}


def engine_table(facts: Mapping[str, Any]) -> Table:
    """One row per fact, what is not proved last; what the library ignored is always told."""
    table = Table(title="TensorRT engine", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in (*_built(facts), *_coverage(facts), *_said(facts), *_verdicts(facts)):
        table.add_row(name, text)
    return table


def _built(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    library, plan = facts["library"], facts["plan"]
    yield "built by", f"{library['name']} {library['version']}"
    yield "from", escape(facts["graph"]["name"])
    yield "for", ", ".join(facts["compute_capabilities"]) or "this GPU"
    profiles = [_profile(profile) for profile in facts["profiles"]]
    yield "shapes" if len(profiles) == 1 else f"{len(profiles)} profiles", "\n".join(profiles)
    size = megabytes(plan["bytes"])
    yield "plan", f"{escape(plan['name'])}  {size}  in {facts['seconds']:.1f} s"


def _profile(profile: Mapping[str, list[int]]) -> str:
    return ",".join(f"{name}={batch}x{sequence}" for name, (batch, sequence) in profile.items())


def _coverage(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    linears, attentions = facts["int8"]["linears"], facts["int8"]["attentions"]
    text = f"{linears['int8']} of {linears['total']}, {linears['int8_output']} with INT8 output"
    yield "INT8 linears", text
    if attentions["total"]:
        yield "fused INT8 attention", f"{attentions['int8']} of {attentions['total']} layers"


def _said(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was asked for and not done, and what the linter saw coming."""
    if assumed := facts["lint"]["assumed"]:
        names = ", ".join(facts["lint"]["compute_capabilities"])
        yield "linted", f"[yellow]for {names}[/], which was assumed: {escape(assumed)}"
    for each in facts["ignored"]:
        yield "ignored", f"[yellow]{escape(each['option'])}[/]: {escape(each['reason'])}"
    degraded = [each for each in facts["lint"]["findings"] if each["severity"] == "degrade"]
    for rule, count in Counter(each["rule"] for each in degraded).items():
        first = next(each for each in degraded if each["rule"] == rule)
        where, times = first["module"] or first["node"], f", {count} times" if count > 1 else ""
        told = f"{where}: {first['found']}{times}; {first['remedy']}"
        yield "degraded", f"[yellow]{rule}[/] {escape(told)}"


def _verdicts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, key in (("INT8", "int8"), ("2:4 kernels", "sparse_kernels"), ("run", "runs")):
        verdict, reason = facts[key]["verdict"], facts[key].get("reason")
        text = f"[{_STYLE[verdict]}]{verdict}[/]"
        yield name, f"{text}: {escape(reason)}" if reason else text
