"""One cell in, what `bench` measured of our files and theirs out."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nxmi_export.artefact import Artefact
from nxmi_export.bench import model_files
from nxmi_export.latency import Workload
from nxmi_export.latency.interleaved import Turn
from nxmi_export.output_files import atomic_file
from nxmi_export.workflow.bench import BenchRequest, bench
from samples.cell_table import read_result
from samples.cpu_peers.cells import SHAPES, Cell
from samples.cpu_peers.models import artefact_of
from samples.cpu_peers.peers import PEERS, made_by
from samples.cpu_peers.place import Place
from samples.fine_tune import CONSOLE

__all__ = ["Pace", "measured", "run"]

_LARGE = 1024  # tokens of a batch whose run is long enough to need none in front of it
_LARGE_TURN = Turn(untimed=0, timed=1)


@dataclass(frozen=True)
class Pace:
    """How long each shape is measured."""

    rounds: int = 40  # at most
    seconds: float = 20.0  # after which a shape gets no further round
    least_rounds: int = 6  # the interval of 95 % needs six
    shapes: tuple[Workload, ...] = SHAPES


def run(cell: Cell, place: Place, results: Path) -> dict[str, Any]:
    """The cell's result, measured unless it is there."""
    found = read_result(cell.name, results)
    if found is None:
        found = measured(cell, place, Pace())
        results.mkdir(parents=True, exist_ok=True)
        with atomic_file(results / f"{cell.name}.json") as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def measured(cell: Cell, place: Place, pace: Pace) -> dict[str, Any]:
    """Everything in one process and one run, after the files are made in others."""
    artefact = artefact_of(cell.model, place)
    made = {peer.name: made_by(peer, cell.model, place) for peer in PEERS}
    against = tuple(path for each in made.values() for path in each.files)
    request = BenchRequest(
        pace.shapes,
        against=against,
        threads=cell.threads,
        rounds=pace.rounds,
        seconds=pace.seconds,
        least_rounds=pace.least_rounds,
        turns={shape: _LARGE_TURN for shape in pace.shapes if shape.rows >= _LARGE},
        memory=False,  # a process for each of a dozen files; `nxmi-export bench` tells it
    )
    with CONSOLE.status(cell.name) as status:

        def on_progress(what: str, done: int, total: int) -> None:
            status.update(f"{cell.name}: {what}, {done} of {total}")

        document = bench(artefact, request, on_progress=on_progress).as_json()
    return {
        "cell": asdict(cell),
        "artefact": model_files(artefact),
        "tuning": _tuning(artefact),
        "peers": {name: _told(each.facts, each.files, each.not_run) for name, each in made.items()},
        "bench": document,
    }


def _tuning(artefact: Artefact) -> dict[str, Any] | None:
    """Which form `model.cpu.onnx` has, and what its sessions are told."""
    tuning = artefact.manifest.tuning
    return None if tuning is None else {"graph": tuning.graph, "options": tuning.options}


def _told(facts: Mapping[str, str], files: tuple[Path, ...], not_run: str | None) -> dict[str, Any]:
    return {**facts, "files": [path.name for path in files], "not_run": not_run}
