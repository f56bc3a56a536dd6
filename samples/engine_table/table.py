"""Result files in, the table in Markdown out."""

from pathlib import Path
from typing import Any

from samples.cell_table import read_result
from samples.engine_table.cells import MODELS, cells

__all__ = ["markdown"]

HEADINGS = (
    *("model", "other types", "placement", "GPU", "linears INT8", "INT8 out"),
    *("attentions fused INT8", "inputs merged", "products unmapped, missing", "kernels"),
    *("plan MB", "build s (processor s)", "peak MB"),
)


def markdown(results: Path) -> str:
    """One row per cell; below it what the models and the libraries are."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    libraries = set()
    for cell in cells():
        found = read_result(cell.name, results) or {"not_run": ""}
        entries = _entries(found)
        place = (cell.model, cell.precision.upper(), cell.placement, cell.capability)
        lines.append(f"| {' | '.join((*place, *entries))} |")
        if "engine" in found:
            libraries.add("{name} {version}".format(**found["engine"]["library"]))
    notes = [f"- {model}: {what}" for model, what in MODELS.items()]
    return "\n".join([*lines, "", *notes, *(f"- {library}" for library in sorted(libraries))])


def _entries(found: dict[str, Any]) -> tuple[str, ...]:
    empty = ("",) * (len(HEADINGS) - 5)
    if "engine" not in found:
        why = found.get("failed", found.get("not_run"))
        kind = "failed" if "failed" in found else "not run"
        return (f"{kind}: {why}" if why else kind, *empty)
    engine = found["engine"]
    linears, attentions = engine["linears"], engine["attentions"]
    merged, mapping = engine["merged_inputs"], engine["mapping"]
    return (
        f"{linears['int8']}/{linears['total']}",
        str(linears["int8_output"]),
        f"{attentions['fused_int8']}/{attentions['total']}",
        f"{merged['merged']}/{merged['total']}",
        f"{len(mapping['unmapped'])}, {len(mapping['missing'])} of {mapping['products']}",
        str(engine["kernels"]),
        f"{engine['plan']['bytes'] / 1e6:.1f}",
        f"{engine['seconds']:.1f} ({engine['processor_seconds']:.1f})",
        str(engine["peak_mb"]),
    )
