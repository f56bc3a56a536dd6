r"""Make honest exports and send each through the ladder, or print what there is of them.

    python -m samples.parity_table --data GLUE_DIR                 every missing cell, in order
    python -m samples.parity_table --data GLUE_DIR --only qqp_deploy
    python -m samples.parity_table --print                         the tables, in Markdown

Every model is MiniLM-L6, trained for one epoch on at most 4 000 examples; dev sets are whole and
gates are the defaults. Interrupt it at will, and run several at once with `--only`: what is there
is kept. Each result is a JSON file in samples/results/parity; a cell without one reads "not run".
"""

import sys
from pathlib import Path

from samples.cell_table import list_names, table_parser
from samples.parity_table.cells import cell_named, cells
from samples.parity_table.run import Place, run
from samples.parity_table.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "parity"


def main() -> None:
    """Run, list or print."""
    parser = table_parser(__doc__, "runs/parity")
    arguments = parser.parse_args()
    if arguments.list:
        list_names((cell.name for cell in cells()), RESULTS)
        return
    if arguments.show:
        print(markdown(RESULTS))
        return
    if arguments.data is None:
        parser.error("--data is needed: a directory of GLUE's Parquet files")
    place = Place(arguments.data, arguments.models, RESULTS)
    for cell in [cell_named(name) for name in arguments.only or ()] or list(cells()):
        result = run(cell, place)
        print(f"{cell.name}: {'every gate holds' if result['ok'] else 'FAILED'}", file=sys.stderr)


if __name__ == "__main__":
    main()
