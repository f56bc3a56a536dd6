"""A parity result in, tables of how far two rungs are apart along the encoder out."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from nxmi_export.parity import ParityResult, Stage
from nxmi_export.parity.drift import Drift, Kind, PointDrift

__all__ = ["layer_errors_tables"]


def layer_errors_tables(result: ParityResult) -> Iterator[Table]:
    """A table a pair of rungs, and a row for every block and the logits; JSON has every layer.

    An encoder whose blocks are not known, or not told apart, is listed by its norms.
    """
    for drift in result.layer_errors:
        names = (result.rungs[Stage(side)].name for side in (drift.reference, drift.candidate))
        table = Table(
            title=f"layer errors: {' → '.join(names)}, {drift.examples} of {result.name}",
            title_justify="left",
        )
        table.add_column("layer", overflow="fold")
        for heading in ("relative RMS error", "largest error", "cosine"):
            table.add_column(heading, justify="right")
        for each in _rows(drift):
            table.add_row(
                escape(str(each.point)),
                f"{each.relative_rms:.3g}",
                f"{each.max_abs:.3g}",
                f"{each.cosine:.6f}",
            )
        yield table


def _rows(drift: Drift) -> tuple[PointDrift, ...]:
    layers = Kind.BLOCK if drift.of(Kind.BLOCK) else Kind.NORM
    return drift.of(layers, Kind.LOGITS)
