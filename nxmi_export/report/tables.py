"""Facts in, rich tables out; each table says where the files are and what was not proved."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from nxmi_export.artefact import Artefact, Manifest
from nxmi_export.artefact.manifest import Tuning
from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS, FLOAT_PRODUCTS
from nxmi_export.doctor import Diagnosis

__all__ = ["artefact_table", "diagnosis_table", "inspection_table", "megabytes"]

_REASONS = {
    **dict.fromkeys(EXACT_PRODUCTS, "where x86 would saturate"),
    **dict.fromkeys(FLOAT_PRODUCTS, "or floats are rounded to 8 bits"),
}
_FORMS = {
    "portable": "the portable graph",
    "attention": "one operator for attention",
    "products": "one operator for a quantized linear and its bias",
    "attention+products": "one operator for attention, and one for a quantized linear and its bias",
}
_STATUS_STYLE = {"ok": "green", "missing": "yellow", "too old": "bold red"}


def artefact_table(artefact: Artefact) -> Table:
    """What was exported: layers by how they are stored, and every file."""
    manifest = artefact.manifest
    table = Table(title="Artefact", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("written to", escape(str(artefact.directory)))
    table.add_row("model", f"{manifest.architecture}, {manifest.position_limit} tokens at most")
    for name, records in (("linears", manifest.linears), ("embeddings", manifest.embeddings)):
        storage = Counter(record.storage for record in records.values())
        if storage:
            table.add_row(name, ", ".join(f"{count} x {kind}" for kind, count in storage.items()))
    if manifest.recipe is not None:
        table.add_row("placement", str(manifest.recipe["placement"]))
    if manifest.tuning is not None:
        table.add_row("onnxruntime", escape(_chosen(manifest.tuning)))
        for each in manifest.tuning.refused:
            form = _FORMS.get(each.graph, each.graph)
            table.add_row("onnxruntime", escape(f"not {form}: {each.reason}"))
    for key, value in manifest.session_options.items():
        table.add_row("onnxruntime", escape(f"set {key} to {value}, {_reason(manifest, key)}"))
    for name, record in manifest.files.items():
        table.add_row(escape(name), f"{megabytes(record.bytes)}  sha256 {record.sha256[:12]}…")
    return table


def _chosen(tuning: Tuning) -> str:
    """What was fastest, and by how much: what it took to beat each way before it, multiplied."""
    winners = [each for each in tuning.timed if each.won]
    if not winners:
        return "the portable graph with every fusion, as no other way was faster here"
    form = _FORMS.get(tuning.graph, tuning.graph)
    gains = (
        f"{math.prod(each.shapes[shape].speedup for each in winners):.2f}x ({shape})"
        for shape in winners[0].shapes
    )
    return f"{form}, {' and '.join(gains)} as fast here as the portable graph with every fusion"


def _reason(manifest: Manifest, key: str) -> str:
    """Why an entry of `session_options` is there."""
    if manifest.tuning is not None and key in manifest.tuning.options:
        return "which was fastest here"
    return _REASONS.get(key, "which the file needs")


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    """One row per library, with the command that gets what is missing."""
    table = Table(title="nxmi-export doctor", title_justify="left")
    for heading in ("what", "status", "found", "to do"):
        table.add_column(heading, overflow="fold")
    cpu, driver = diagnosis.processor, diagnosis.driver
    table.add_row("python", "[green]ok[/]", f"{diagnosis.python} on {diagnosis.platform}", "")
    table.add_row("processor", "[green]ok[/]", str(cpu), "")
    if driver is None:
        found, todo = "no NVIDIA driver", "engines can be built ahead of time, not run"
        table.add_row("GPU", "[yellow]missing[/]", found, todo)
    else:
        gpus = ", ".join(gpu.name for gpu in driver.gpus) or "no GPU"
        table.add_row("GPU", "[green]ok[/]", f"driver {driver.version}: {gpus}", "")
    for each in diagnosis.components:
        name = f"{each.name} [{each.extra}]" if each.extra else each.name
        found = " ".join(part for part in (each.version, each.detail) if part)
        status = f"[{_STATUS_STYLE[each.status]}]{each.status}[/]"
        table.add_row(escape(name), status, escape(found), escape(each.remedy or ""))
    return table


def inspection_table(facts: Mapping[str, Any]) -> Table:
    """One row per linear and embedding table; `facts` is `Inspection.as_json()`."""
    title = escape(f"{facts['subject']}: {facts['architecture']}")
    table = Table(title=title, title_justify="left")
    table.add_column("module", overflow="fold")
    table.add_column("stored as")
    table.add_column("in x out", justify="right")
    table.add_column("zeros", justify="right")
    for name, each in facts["linears"].items():
        shape = f"{each['inputs']} x {each['outputs']}"
        table.add_row(name, each["scheme"], shape, f"{each['zeros']:.1%}")
    for name, each in facts["embeddings"].items():
        table.add_row(name, each["storage"], f"{each['rows']} x {each['width']}", "")
    if not facts["linears"]:
        table.add_row("none compressed", "", "", "")
    table.caption = escape("; ".join(_further_files(facts))) or None
    table.caption_justify = "left"
    return table


def _further_files(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["float16"] is not None:
        yield f"model.fp16.onnx: {facts['float16']['nodes']} nodes in float16"
        yield from (f"{module} {why}" for module, why in facts["float16"]["kept"].items())
    by_block = Counter(each["block"] for each in facts["packed"].values())
    for block, count in by_block.items():
        stored = [each["bytes"] for each in facts["packed"].values() if each["block"] == block]
        size = megabytes(sum(stored))
        yield f"model.int4.onnx: {count} linears as int4 in blocks of {block}, {size} with scales"


def megabytes(size: int) -> str:
    """A size in bytes, as decimal megabytes."""
    return f"{size / 1e6:.{1 if size > 1e6 else 3}f} MB"
