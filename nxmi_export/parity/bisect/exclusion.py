"""A recipe and layers in, the recipe that leaves those layers dense out, and its file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from nxmi_export.output_files import atomic_file
from nxmi_export.parity.bisect.smallest_set import Bisection
from nxmi_export.recipe import Recipe, Scheme

__all__ = ["exclusion_recipe", "write_exclusions"]


def exclusion_recipe(recipe: Recipe, layers: Sequence[str]) -> Recipe:
    """`recipe` with `layers` dense, by exact module name; all else as it was.

    The new overrides come first, as the first that matches wins.
    """
    dense = dict.fromkeys(layers, Scheme())
    others = {name: scheme for name, scheme in recipe.overrides.items() if name not in dense}
    return recipe.model_copy(update={"overrides": {**dense, **others}})


def write_exclusions(path: Path, recipe: Recipe, found: Bisection) -> None:
    """Write `recipe`, ready for `compress --recipe`, under comments that say where it is from.

    The file appears whole or not at all; raises OutputError where it cannot be written.
    """
    comment = "".join(f"# {line}\n" for line in _comment(found))
    text = yaml.safe_dump(recipe.as_mapping(), sort_keys=False, width=100)
    with atomic_file(path) as temporary:
        temporary.write_text(f"{comment}{text}", encoding="utf-8")


def _comment(found: Bisection) -> Iterator[str]:
    least = found.goal.reference - found.goal.tolerance
    yield f"{len(found.layers)} of {len(found.candidates)} layers stay dense, found by bisection."
    yield (
        f"The metric is {found.metric_before:.4f} with all of them compressed and "
        f"{found.metric:.4f} with these dense; at least {least:.4f} was asked for."
    )
    yield f"Of {found.evaluations} evaluated sets: {found.certainty}."
