r"""Build the table of engines, or print what there is of it.

    python -m samples.engine_table --data GLUE_DIR                 every missing cell, in order
    python -m samples.engine_table --only bert-base_fp32_sparse_sm86
    python -m samples.engine_table --print                         the table, in Markdown

Interrupt it at will. Artefacts are made where they are missing (MiniLM is fine-tuned on MRPC and
compressed without training), and one engine is built at a time, in a process of its own, by
TensorRT-RTX, which needs no GPU. Each result is a JSON file in samples/results/engines; a cell
without one reads "not run".
"""

import sys
from pathlib import Path

from samples.cell_table import list_names, table_parser
from samples.engine_table.artefacts import Place
from samples.engine_table.cells import cell_named, cells
from samples.engine_table.run import run
from samples.engine_table.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "engines"


def main() -> None:
    """Run, list or print."""
    parser = table_parser(__doc__, "runs/engines")
    arguments = parser.parse_args()
    if arguments.list:
        list_names((cell.name for cell in cells()), RESULTS, lambda found: "engine" in found)
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
