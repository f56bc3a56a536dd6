"""Recipe files in, plain data or one sentence about what is wrong out."""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from nxmi_export.errors import RecipeError
from nxmi_export.recipe.scheme import sentence

__all__ = ["as_recipe_error", "read_yaml"]

_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file; raises RecipeError if it is missing or no YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _RecipeLoader)  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(
            path,
            expected="a readable YAML file",
            found=" ".join(str(error).split()),
            remedy="check the path and the indentation",
        ) from error


class _RecipeLoader(yaml.SafeLoader):
    """YAML 1.1 without its base-60 integers, in which `2:4` is the number 124.

    And with YAML 1.2's floats: to YAML 1.1 `1e-4` is a text, as it has no dot.
    """


_RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_INT, _FLOAT}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_RecipeLoader.add_implicit_resolver(_INT, re.compile(r"-?[0-9]+$"), list("-0123456789"))
_RecipeLoader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"-?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-.0123456789"),
)


def as_recipe_error(error: ValidationError, source: object, recipe: type[BaseModel]) -> RecipeError:
    """The first complaint of pydantic about `source`, as one sentence with a remedy."""
    first = error.errors()[0]
    loc = [str(part) for part in first["loc"] if part != "[key]"]
    place = ".".join(loc)
    if first["type"] == "extra_forbidden":
        known = _keys(recipe, loc[:-1])
        near = difflib.get_close_matches(loc[-1], known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
        return RecipeError(
            source, expected="known recipe keys", found=f"the key {place!r}", remedy=remedy
        )
    whole = first["type"] == "value_error" and isinstance(first["input"], dict)
    return RecipeError(
        source,
        expected=f"a valid value for {place or 'the recipe'}",
        # of a complaint about several keys at once, the keys are in the remedy
        found="keys that do not go together" if whole else repr(first["input"]),
        remedy=sentence(error),
    )


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that are allowed at `path` of a recipe."""
    for part in path:
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []  # inside a mapping of schemes, whose texts are checked as values
        model = inner
    return list(model.model_fields)
