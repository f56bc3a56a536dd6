r"""Run the GLUE table, or print what there is of it.

    python -m samples.glue_table --data GLUE_DIR                    every missing cell, in order
    python -m samples.glue_table --data GLUE_DIR --only mrpc_deploy_0
    python -m samples.glue_table --print                            the table, in Markdown
    python -m samples.glue_table --data GLUE_DIR --only mrpc_deploy_0 --holdout \
        --set sparsity.pull=0.3                                     for choosing a setting
    python -m samples.glue_table --recount-masks                    from the models that are kept

Interrupt it at will: the next start goes on from the last snapshot. Each result is a JSON file in
samples/results/glue; a cell without one reads "not run".
"""

from pathlib import Path
from typing import Any, Literal

import yaml

from samples.cell_table import list_names, table_parser
from samples.fine_tune import CONSOLE
from samples.glue_table.cells import cell_named, cells
from samples.glue_table.masks import recount
from samples.glue_table.run import Place, run_cell
from samples.glue_table.table import markdown

RESULTS = Path(__file__).parents[1] / "results" / "glue"


def main() -> None:
    """Run, list or print."""
    parser = table_parser(__doc__, "runs/glue")
    parser.add_argument("--holdout", action="store_true", help="evaluate on a tenth of train")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--recount-masks", action="store_true", help="of models in --models")
    arguments = parser.parse_args()
    if arguments.list:
        list_names((cell.name for cell in cells()), RESULTS)
        return
    if arguments.show:
        print(markdown(RESULTS))
        return
    chosen = [cell_named(name) for name in arguments.only or ()] or list(cells())
    if arguments.recount_masks:
        for cell, moved in recount(chosen, arguments.models, RESULTS):
            CONSOLE.print(cell.name, "no masks" if moved is None else f"{moved:.2%}")
        return
    if arguments.data is None:
        parser.error("--data is needed to run cells")
    if arguments.changes and not arguments.holdout:
        parser.error("--set goes with --holdout: settings are not chosen on the dev sets")
    results = RESULTS / "holdout" if arguments.holdout else RESULTS
    results.mkdir(parents=True, exist_ok=True)
    split: Literal["dev", "holdout"] = "holdout" if arguments.holdout else "dev"
    changes = _changes(arguments.changes)
    place = Place(arguments.data, arguments.models, results, split, changes)
    for cell in chosen:
        result = run_cell(cell, place)
        CONSOLE.print(f"{place.name_of(cell)}: {result['metric']:.4f}")


def _changes(settings: list[str]) -> dict[str, Any]:
    """`["a.b=1"]` as `{"a": {"b": 1}}`."""
    changes: dict[str, Any] = {}
    for setting in settings:
        path, _, text = setting.partition("=")
        *folders, key = path.split(".")
        inner = changes
        for folder in folders:
            inner = inner.setdefault(folder, {})
        # YAML 1.1 reads 1e-4 as a text
        value = yaml.safe_load(text)
        inner[key] = _number(value) if isinstance(value, str) else value
    return changes


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
