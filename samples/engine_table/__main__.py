r"""Build the table of engines, or print what there is of it.

    python -m samples.engine_table --data GLUE_DIR                 every missing cell, in order
    python -m samples.engine_table --only bert-base_fp32_sparse_sm86
    python -m samples.engine_table --print                         the table, in Markdown

Interrupt it at will. Artefacts are made where they are missing (MiniLM is fine-tuned on MRPC and
compressed without training), and one engine is built at a time, in a process of its own, by
TensorRT-RTX, which needs no GPU. Each result is a JSON file in samples/results/engines; a cell
without one reads "not run".
"""

import argparse
import sys
from pathlib import Path

from samples.engine_table.artefacts import Place
from samples.engine_table.cells import cell_named, cells
from samples.engine_table.run import read_result, run
from samples.engine_table.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "engines"


def main() -> None:
    """Run, list or print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=Path, default=Path("runs/engines"))
    parser.add_argument("--only", nargs="+", metavar="CELL", help="names as --list prints them")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--print", action="store_true", dest="show")
    arguments = parser.parse_args()
    if arguments.list:
        for cell in cells():
            done = "engine" in (read_result(cell, RESULTS) or {})
            print(f"{cell.name}{'  done' if done else ''}")
        return
    if arguments.show:
        print(markdown(RESULTS))
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    place = Place(arguments.models, arguments.data)
    for cell in [cell_named(name) for name in arguments.only or ()] or list(cells()):
        result = run(cell, place, RESULTS)
        outcome = "built" if "engine" in result else result.get("failed") or result["not_run"]
        print(f"{cell.name}: {outcome}", file=sys.stderr)


if __name__ == "__main__":
    main()
