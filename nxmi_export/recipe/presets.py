"""Recipes that ship with the package, by name."""

from importlib.resources import as_file, files
from pathlib import Path

from nxmi_export.errors import RecipeError
from nxmi_export.recipe.recipe import Recipe

__all__ = ["PRESETS", "preset", "recipe_from"]

PRESETS = ("deploy", "w4", "paper", "admm", "asp", "sr-ste", "qat", "asp+qat", "sequential")
_SUFFIXES = {".yaml", ".yml", ".json"}


def preset(name: str) -> Recipe:
    """The recipe shipped as `name`; raises RecipeError for another name."""
    if name not in PRESETS:
        raise RecipeError(
            f"recipe {name!r}",
            expected=f"a file that ends in .yaml or a preset out of {', '.join(PRESETS)}",
            found="neither",
            remedy="write the path of a recipe file or the name of a preset",
        )
    with as_file(files("nxmi_export.recipe") / "presets" / f"{name}.yaml") as path:
        return Recipe.from_yaml(path)


def recipe_from(text: str) -> Recipe:
    """The recipe that a user names: a preset, or the path of a recipe file.

    Raises RecipeError for anything else, and for a file that is no valid recipe.
    """
    path = Path(text)
    if text not in PRESETS and (path.suffix in _SUFFIXES or path.exists()):
        return Recipe.from_yaml(path)
    return preset(text)
