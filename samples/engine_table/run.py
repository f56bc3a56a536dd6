"""One cell in, its result file out."""

import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nxmi_export.artefact import Artefact
from nxmi_export.output_files import atomic_file
from samples.cell_table import read_result
from samples.engine_table.artefacts import Place, artefact_of
from samples.engine_table.cells import Cell

__all__ = ["build", "run"]


def run(cell: Cell, place: Place, results: Path) -> dict[str, Any]:
    """Build the cell unless its engine is there; what cannot be built is tried again next time."""
    found = read_result(cell.name, results)
    if found is None or "engine" not in found:
        found = {"cell": asdict(cell)} | build(cell, artefact_of(cell, place))
        with atomic_file(results / f"{cell.name}.json") as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def build(cell: Cell, artefact: Artefact) -> dict[str, Any]:
    """Either the engine's facts, or why there is none."""
    manifest = artefact.manifest
    if cell.graph not in manifest.files:
        return {"not_run": f"the artefact has no {cell.graph}"}
    with tempfile.TemporaryDirectory() as folder:
        facts = Path(folder) / "facts.json"
        command = [
            *(sys.executable, "-m", "samples.engine_table.build_one"),
            *(artefact.directory / cell.graph, facts, "--capability", cell.capability),
            *("--positions", manifest.position_limit),
        ]
        done = subprocess.run(
            list(map(str, command)), check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return {"failed": last[0] if last else f"exit status {done.returncode}"}
        engine = json.loads(facts.read_text(encoding="utf-8"))
    return {
        "graph_sha256": manifest.files[cell.graph].sha256,
        "versions": manifest.versions,
        "machine": f"{platform.system()} {platform.machine()}",
        "engine": engine,
    }
