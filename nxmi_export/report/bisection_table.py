"""A parity result in, a table of what bisection found out."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from nxmi_export.parity import ParityResult

__all__ = ["bisection_table"]


def bisection_table(result: ParityResult) -> Iterator[Table]:
    """The layers to return, what that gives and what is known of them; no table without one."""
    found = result.bisection
    if found is None:
        return
    table = Table(title=f"bisection: {result.name}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    least = found.goal.reference - found.goal.tolerance
    table.add_row("wanted", f"at least {least:.4f}, of {found.goal.reference:.4f}")
    table.add_row("as compressed", f"{found.metric_before:.4f}")
    layers = "\n".join(found.layers) or ("none needed" if found.restored else "no set restores it")
    table.add_row(f"layers to return, {len(found.layers)}", escape(layers))
    table.add_row("with these", f"{found.metric:.4f}")
    table.add_row("sets evaluated", f"{found.evaluations} of {found.budget}: {found.certainty}")
    yield table
