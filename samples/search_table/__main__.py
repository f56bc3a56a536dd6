r"""Run the table of searched configurations, or print what there is of it.

    python -m samples.search_table --data GLUE_DIR                  every missing cell, in order
    python -m samples.search_table --data GLUE_DIR --only mrpc_nominal_layer
    python -m samples.search_table --print                          the table, in Markdown

At 12.5 % of the float32 size, nominal and with metadata: one scheme everywhere, a random
configuration, and the winners of both searches, each trained as `deploy` is in samples.glue_table,
and so are the table's own dense models. What another cell has trained already is taken from there.
Two processes share a task with --only: what needs no search is trained while the other searches.
Interrupt it at will. Each result is a JSON file in samples/results/search, and in choices there is
what each search found: a machine that trains the same dense weights need not search again. The
same are those of the same kind of processor and as many threads (OMP_NUM_THREADS).
"""

from itertools import groupby
from pathlib import Path

from samples.cell_table import list_names, table_parser
from samples.fine_tune import CONSOLE
from samples.glue_table.run import Place
from samples.search_table.cells import cell_named, cells
from samples.search_table.run import run, train_ahead
from samples.search_table.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "search"


def main() -> None:
    """Run, list or print."""
    parser = table_parser(__doc__, "runs/search")
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
    arguments.models.mkdir(parents=True, exist_ok=True)
    # What dense models score is in every cell; their own results stay beside their weights.
    place = Place(arguments.data, arguments.models, arguments.models)
    chosen = [cell_named(name) for name in arguments.only or ()] or list(cells())
    for _, group in groupby(chosen, key=lambda cell: (cell.task, cell.budget)):
        together = list(group)
        for cell in together:
            train_ahead(cell, place, RESULTS)
        for cell in together:
            result = run(cell, place, RESULTS)
            origin = f", taken from {result['taken_from']}" if "taken_from" in result else ""
            CONSOLE.print(f"{cell.name}: {result['metric']:.4f}{origin}")


if __name__ == "__main__":
    main()
