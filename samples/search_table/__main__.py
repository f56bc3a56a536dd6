r"""Run the table of searched configurations, or print what there is of it.

    python -m samples.search_table --data GLUE_DIR                  every missing cell, in order
    python -m samples.search_table --data GLUE_DIR --only mrpc_nominal_layer
    python -m samples.search_table --print                          the table, in Markdown

At 12.5 % of the float32 size, nominal and with metadata: one scheme everywhere, a random
configuration, and the winners of both searches, each trained as `deploy` is in samples.glue_table,
which trains the dense models. What another cell has trained already is taken from there.
Interrupt it at will. Each result is a JSON file in samples/results/search.
"""

from pathlib import Path

from samples.cell_table import list_names, table_parser
from samples.fine_tune import CONSOLE
from samples.glue_table.__main__ import RESULTS as GLUE_RESULTS
from samples.glue_table.run import Place
from samples.search_table.cells import cell_named, cells
from samples.search_table.run import run
from samples.search_table.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "search"


def main() -> None:
    """Run, list or print."""
    parser = table_parser(__doc__, "runs/glue")
    arguments = parser.parse_args()
    if arguments.list:
        list_names((cell.name for cell in cells()), RESULTS)
        return
    if arguments.show:
        print(markdown(RESULTS))
        return
    if arguments.data is None:
        parser.error("--data is needed to run cells")
    RESULTS.mkdir(parents=True, exist_ok=True)
    place = Place(arguments.data, arguments.models, GLUE_RESULTS)
    for cell in [cell_named(name) for name in arguments.only or ()] or list(cells()):
        result = run(cell, place, RESULTS)
        origin = f", taken from {result['taken_from']}" if "taken_from" in result else ""
        CONSOLE.print(f"{cell.name}: {result['metric']:.4f}{origin}")


if __name__ == "__main__":
    main()
