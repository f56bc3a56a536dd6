"""One cell in, its result file out; everything is done by the package's own commands."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from nxmi_export.artefact import read_artefact
from nxmi_export.output_files import atomic_file
from nxmi_export.processor import this_processor
from nxmi_export.recipe import preset
from samples.cell_table import read_result
from samples.parity_table.cells import Cell
from samples.parity_table.summary import summary_of

__all__ = ["Place", "changed_settings", "run"]

DENSE_EPOCHS = "1"  # parity does not need a good model
_FAILED_GATE = 1


@dataclass(frozen=True)
class Place:
    """Where GLUE is, where models are kept, and where results go."""

    data: Path
    models: Path
    results: Path


def run(cell: Cell, place: Place) -> dict[str, Any]:
    """The cell's result, made unless it is there; exits where a command fails.

    A failed gate is a result. Parity runs in a process of its own, whose peak memory is recorded.
    """
    found = read_result(cell.name, place.results)
    if found is not None:
        if found["cell"] != asdict(cell):
            raise SystemExit(f"{cell.name}: made of another recipe; delete its result to run it")
        return found
    result = {"cell": asdict(cell), **_measured(cell, place)}
    place.results.mkdir(parents=True, exist_ok=True)
    with atomic_file(place.results / f"{cell.name}.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def changed_settings(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with `changes` merged into them, one level deep."""
    changed = dict(settings)
    for name, value in changes.items():
        changed[name] = {**settings[name], **value} if isinstance(value, dict) else value
    return changed


def _measured(cell: Cell, place: Place) -> dict[str, Any]:
    artefact, dense = _artefact(cell, place), _dense(cell, place)
    data = ("--task", cell.task, "--data", place.data)
    asked = {"--drift": cell.drift, "--captured": cell.captured}
    more = [name for name, wanted in asked.items() if wanted]
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "parity.json"
        page = ("--html", Path(folder) / "report.html")
        begun = time.perf_counter()
        peak, processor = _run_measured(
            *("nxmi_export", "parity", artefact, *data, "--dense", dense, *more),
            *("-o", document, *page),
        )
        seconds = time.perf_counter() - begun
        parity = json.loads(document.read_text(encoding="utf-8"))
    manifest = read_artefact(artefact).manifest
    return {
        **summary_of(parity),
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "peak_mb": peak,
        "checkpoint_sha256": manifest.source.sha256,
        "machine": str(this_processor()),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "versions": {name: version(name) for name in ("torch", "transformers", "onnxruntime")},
    }


def _artefact(cell: Cell, place: Place) -> Path:
    directory = place.models / f"{cell.name}.artefact"
    if directory.exists():
        return directory
    model, recipe = (directory.with_suffix(suffix) for suffix in (".pt", ".yaml"))
    if not model.exists():
        dense = _dense(cell, place)
        settings = changed_settings(preset(cell.recipe).as_mapping(), cell.changes)
        recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
        _run(
            *("nxmi_export", "compress", dense, "--task", cell.task, "--data", place.data),
            *("--recipe", recipe, "--epochs", cell.epochs, "--limit", cell.examples),
            *("--seed", cell.seed, "-o", model, "--resume"),
        )
    _run("nxmi_export", "export", model, "-o", directory, *(["--fp16"] if cell.float16 else []))
    return directory


def _dense(cell: Cell, place: Place) -> Path:
    directory = place.models / f"{cell.task}-{cell.seed}"
    if not directory.exists():
        place.models.mkdir(parents=True, exist_ok=True)
        _run(
            *("samples.fine_tune", "--task", cell.task, "--data", place.data, "-o", directory),
            *("--limit", cell.examples, "--epochs", DENSE_EPOCHS, "--seed", cell.seed),
        )
    return directory


def _run(module: str, *arguments: object) -> None:
    # Figures go to standard error, since the table is what this program prints.
    subprocess.run(_command(module, *arguments), check=True, stdout=sys.stderr)


def _run_measured(module: str, *arguments: object) -> tuple[int, float]:
    """The peak resident memory in megabytes, and the processor's seconds; Linux only."""
    with subprocess.Popen(_command(module, *arguments), stdout=sys.stderr) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, _FAILED_GATE):
        raise SystemExit(f"{module} {arguments[0]}: exit status {process.returncode}")
    return round(usage.ru_maxrss * 1024 / 1e6), usage.ru_utime + usage.ru_stime


def _command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]
