"""Recipes that ship with the package, by name."""

import difflib
from importlib.resources import as_file, files
from pathlib import Path

from nxmi_export.errors import RecipeError
from nxmi_export.recipe.recipe import Recipe

__all__ = ["PRESETS", "preset", "recipe_from"]

PRESETS = (
    *("deploy", "w4", "ptq", "paper"),
    *("admm", "asp", "sr-ste", "qat", "asp+qat", "sequential"),  # baselines
)
_SUFFIXES = {".yaml", ".yml", ".json"}


def preset(name: str) -> Recipe:
    """The recipe shipped as `name`; raises RecipeError for another name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), PRESETS, n=1)
        raise RecipeError(
            f"recipe {name!r}",
            expected=f"a file that ends in .yaml or .json, or a preset out of {', '.join(PRESETS)}",
            found="neither",
            remedy=f"did you mean {near[0]!r}?" if near else "name one of the two",
        )
    with as_file(files("nxmi_export.recipe") / "presets" / f"{name}.yaml") as path:
        return Recipe.from_yaml(path)


def recipe_from(text: str) -> Recipe:
    """The recipe that a user names: a preset, or the path of a recipe file.

    A preset wins over a file of the same name, which `./name` reaches. Raises RecipeError for
    anything else, and for a file that is no valid recipe.
    """
    path = Path(text)
    is_file = path.suffix.lower() in _SUFFIXES or (text and path.exists())
    return Recipe.from_yaml(path) if is_file and text not in PRESETS else preset(text)
