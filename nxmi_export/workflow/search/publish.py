"""A finished search in, its files out: recipes, pictures, and everything about it."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from nxmi_export.output_files import atomic_directory, atomic_file
from nxmi_export.recipe import Recipe
from nxmi_export.report.pareto_chart import pareto_chart
from nxmi_export.report.search_page import search_page
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.result import Ranked, SearchResult

__all__ = ["publish"]


def publish(outputs: Outputs, result: SearchResult, recipes: Mapping[str, Recipe]) -> None:
    """Write each file whole, search.json last; until then --resume can make all of them again.

    `recipes` are those of the files that the result names. Raises OutputError where a file cannot
    be written.
    """
    facts = result.as_json()
    entries = {entry.recipe: entry for entry in (*result.ranked, *result.winners.values())}
    with atomic_directory(outputs.ranked, replaceable=outputs.is_ours) as folder:
        for file, recipe in recipes.items():
            _recipe_text(folder / Path(file).name, result, entries[file], recipe)
    _write(outputs.chart, pareto_chart(facts))
    _write(outputs.page, search_page(facts))
    _write(outputs.result, f"{json.dumps(facts, indent=1, allow_nan=False)}\n")


def _recipe_text(path: Path, result: SearchResult, entry: Ranked, recipe: Recipe) -> None:
    comment = "".join(f"# {line}\n" for line in _comment(result, entry))
    text = yaml.safe_dump(recipe.as_mapping(), sort_keys=False, width=100)
    path.write_text(f"{comment}{text}", encoding="utf-8")


def _comment(result: SearchResult, entry: Ranked) -> Iterator[str]:
    found = entry.measured
    unit = "squared difference" if result.task.is_regression else "nats"
    yield f"Number {entry.rank} of a search on {result.task.name}, one choice per {found.origin}."
    yield f"Budget: {result.budget_in_words}."
    yield (
        f"Size: {found.with_metadata:.4f} of the float32 size with metadata, "
        f"{found.nominal:.4f} nominal."
    )
    if found.seconds is not None and result.latency is not None:
        source = result.latency["source"]
        yield f"Latency: {found.seconds * 1e3:.4g} ms on {result.latency['device']} ({source})."
    examples = result.data["slice"]["examples"]
    metric = "no number" if found.metric is None else f"{found.metric:.4f}"
    yield (
        f"Before any training, on {examples} examples of the train split: "
        f"divergence {found.divergence:.4g} ({unit}), {result.task.primary_metric} {metric}."
    )
    recipe = result.output / entry.recipe
    task = result.task.argument_in(recipe.parent)
    train = ["nxmi-export", "compress", "MODEL", "--task", task, "--recipe", recipe.name]
    yield f"Train it, in the folder of this file: {shlex.join(train)}"


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
