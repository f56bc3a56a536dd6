"""A linter's report in, a table of rules and what they found out."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

__all__ = ["lint_table"]

_STYLE = {"refuse": "bold red", "alter": "bold red", "degrade": "yellow", "note": "dim"}


def lint_table(report: Mapping[str, Any]) -> Table:
    """One row per rule, worst first: how often, where first, what to do.

    Where several graphs were read, places begin with the graph's name.
    """
    graphs = report["graphs"]
    counts = ", ".join(f"{count} {severity}" for severity, count in report["counts"].items())
    read = f" over {', '.join(graphs)}" if len(graphs) > 1 else ""
    table = Table(title=escape(f"TensorRT linter{read}: {counts}"), title_justify="left")
    for heading in ("severity", "rule", "times", "first place", "found", "to do"):
        table.add_column(heading, overflow="fold")
    rules: dict[str, list[Mapping[str, str]]] = {}
    for severity in _STYLE:
        for finding in report["findings"]:
            if finding["severity"] == severity:
                rules.setdefault(finding["rule"], []).append(finding)
    for name, findings in rules.items():
        first = findings[0]
        style = _STYLE[first["severity"]]
        where = first["module"] or first["node"]
        where = f"{first['graph']}: {where}" if read else where
        texts = (where, first["found"], first["remedy"])
        table.add_row(
            f"[{style}]{first['severity']}[/]", name, str(len(findings)), *map(escape, texts)
        )
    if report["fixed"] is not None:
        fixes = {each["pass"]: each["changes"] for each in report["fixes"] if each["changes"]}
        done = ", ".join(f"{name} {count}" for name, count in fixes.items()) or "nothing to mend"
        table.caption = escape(f"mended copy {report['fixed']}: {done}")
        table.caption_justify = "left"
    return table
