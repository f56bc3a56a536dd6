"""The memory in `bench.json` in, one table of it, its notes and its cells out."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from nxmi_export.report.bench_table import comparisons

__all__ = ["MEMORY_HEADINGS", "memory_caption", "memory_notes", "memory_rows", "memory_table"]

_MEGA = 1e6
MEMORY_HEADINGS = (
    "",
    "loaded, MB",
    "of that anonymous, MB",
    "peak loading, MB",
    "peak running, MB",
)
_FIGURES = ("loaded", "loaded_anonymous", "peak_loading", "peak_running")


def memory_rows(document: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...] | str]]:
    """What each contender is, and bytes for the columns, or why there are none."""
    for key, each in document["memory"]["results"].items():
        what = document["contenders"][key]["what"]
        yield what, tuple(each[name] for name in _FIGURES) if each["ran"] else each["reason"]


def memory_caption(document: Mapping[str, Any]) -> str:
    """What was measured, and above what."""
    found = document["memory"]
    bases = [each["baseline"] / _MEGA for each in found["results"].values() if each["ran"]]
    shape = f"batches of {found['batch']} x {found['sequence']} tokens"
    text = f"Memory of the host, running {shape}: each in a process of its own"
    if not bases:
        return f"{text}."
    least, most = f"{min(bases):.0f}", f"{max(bases):.0f}"
    span = least if least == most else f"{least} to {most}"
    return f"{text}, above the {span} MB that it holds with its libraries imported."


def memory_table(document: Mapping[str, Any]) -> list[Table]:
    """The table, or none where nothing was measured."""
    if not document["memory"]["measured"]:
        return []
    table = Table(
        title="Memory",
        title_justify="left",
        caption=memory_caption(document),
        caption_justify="left",
    )
    table.add_column("", overflow="fold")
    for heading in MEMORY_HEADINGS[1:]:
        table.add_column(heading, justify="right", overflow="fold")
    for what, found in memory_rows(document):
        if isinstance(found, str):
            table.add_row(escape(what), "[yellow]not measured[/]", *[""] * (len(_FIGURES) - 1))
        else:
            table.add_row(escape(what), *(f"{each / _MEGA:.1f}" for each in found))
    return [table]


def memory_notes(document: Mapping[str, Any]) -> list[str]:
    """Why memory is missing where times are not; as markup."""
    if not document["memory"]["measured"]:
        return [f"no memory: {escape(document['memory']['reason'])}"]
    told = {
        each["reason"]
        for _, found in comparisons(document)
        for each in found["results"].values()
        if not each["ran"]
    }
    return [
        f"[yellow]no memory:[/] {escape(what)}: {escape(found)}"
        for what, found in memory_rows(document)
        if isinstance(found, str) and found not in told
    ]
