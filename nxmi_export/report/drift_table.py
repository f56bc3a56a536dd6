"""A parity result in, a table of where each rung drifts out."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from nxmi_export.parity import ParityResult

__all__ = ["drift_table"]


def drift_table(result: ParityResult) -> Iterator[Table]:
    """A row a rung: the first layer beyond rounding, its cause and the sentence about it.

    No table where drift was not measured.
    """
    if not result.drift:
        return
    table = Table(title=f"drift from compressed PyTorch: {result.name}", title_justify="left")
    for heading in ("rung", "first layer beyond rounding", "cause", "why"):
        table.add_column(heading, overflow="fold")
    for stage, drift in result.drift.items():
        attribution = drift.attribution
        table.add_row(
            result.rungs[stage].name,
            "[green]none[/]" if drift.explained else f"[bold red]{escape(drift.first_layer)}[/]",
            "none" if attribution is None else attribution.cause.value,
            "No code and no stored number differs."
            if attribution is None
            else escape(attribution.reason),
        )
    yield table
