r"""Time our files beside those of other tools on this processor, or print what there is of it.

    python -m samples.cpu_peers --data GLUE_DIR                     every missing cell, in order
    python -m samples.cpu_peers --data GLUE_DIR --only minilm_2
    python -m samples.cpu_peers --print                             the tables, in Markdown
    python -m samples.cpu_peers --data GLUE_DIR --rounds 3 --seconds 0 --shapes 1x16
                                                                    a trial; nothing is stored

A cell is one model with one number of threads, on processors of one kind. Dense checkpoints,
artefacts, peers' files and the environments of optimum and NNCF (virtual ones, from
requirements-*.txt) are made in runs/cpu_peers where they are missing: minutes, and several hundred
megabytes. Let the machine be idle while cells run. Each result is a JSON file in
samples/results/cpu_peers, in a folder named after the best instructions for INT8 that the processor
has; a cell without one reads "not run", and so does, with the reason, a tool whose environment or
files cannot be made.
"""

import json
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from nxmi_export.bench import parse_workloads
from nxmi_export.processor import this_processor
from samples.cell_table import list_names, table_parser
from samples.cpu_peers.cells import SHAPES, cell_named, cells
from samples.cpu_peers.place import Place
from samples.cpu_peers.run import Pace, measured, run
from samples.cpu_peers.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "cpu_peers"
POSITIONS = 512  # of both models


def main() -> None:
    """Run, try, list or print."""
    parser = table_parser(__doc__, "runs/cpu_peers")
    trial = parser.add_argument_group("a trial, which stores nothing")
    trial.add_argument("--rounds", type=int)
    trial.add_argument("--seconds", type=float)
    trial.add_argument("--shapes", metavar="SHAPES", help="as in 1x16,8x128")
    arguments = parser.parse_args()
    if arguments.list:
        list_names((cell.name for cell in cells()), results_here())
        return
    if arguments.show:
        print("\n\n".join(_told(folder) for folder in sorted(RESULTS.iterdir())))
        return
    if arguments.data is None:
        parser.error("--data is needed: a directory of GLUE's Parquet files")
    place = Place(arguments.models, arguments.data)
    pace = _trial(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for cell in [cell_named(name) for name in arguments.only or ()] or list(cells()):
            begun = time.perf_counter()
            if pace is None:
                run(cell, place, results_here())
            else:
                _keep(measured(cell, place, pace), Path(folder) / f"{cell.name}.json")
            print(f"{cell.name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        if pace is not None:
            print(markdown(Path(folder)))


def results_here() -> Path:
    """Where cells of processors like this one are stored."""
    return RESULTS / ("none", *this_processor().int8_instructions)[-1]


def _told(folder: Path) -> str:
    return f"### Processors with {folder.name}\n\n{markdown(folder)}"


def _trial(arguments: Namespace) -> Pace | None:
    """How long to measure if nothing is to be stored; None for a cell that counts."""
    given = {name: getattr(arguments, name) for name in ("rounds", "seconds", "shapes")}
    if not any(value is not None for value in given.values()):
        return None
    usual = Pace()
    rounds = usual.rounds if arguments.rounds is None else arguments.rounds
    shapes = arguments.shapes
    return Pace(
        rounds,
        usual.seconds if arguments.seconds is None else arguments.seconds,
        min(usual.least_rounds, rounds),
        SHAPES if shapes is None else parse_workloads(shapes, position_limit=POSITIONS),
    )


def _keep(found: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
