"""What pydantic says against a recipe in, one sentence for its author out."""

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nxmi_export.errors import RecipeError
from nxmi_export.recipe.scheme import Component, sentence

__all__ = ["as_recipe_error", "in_words"]

_UNKNOWN_KEY = {"extra_forbidden", "invalid_key"}
_KEY_MARK = "[key]"  # how pydantic's location says that the key of a mapping is at fault
_REMEDIES = {
    "bool_type": "write true or false",
    "float_type": "write a number",
    "int_type": "write a whole number",
}
_SAME_WORD = 0.8  # how alike a key of another section must be: `epoch` is training.epochs

_shortened = reprlib.Repr()
_shortened.maxstring = 80


def as_recipe_error(error: ValidationError, source: object, recipe: type[BaseModel]) -> RecipeError:
    """All unknown keys of `source`, else its first wrong value, and where the other ones are."""
    complaints = error.errors(include_url=False)
    unknown = [complaint for complaint in complaints if _is_about_a_key(complaint)]
    told = unknown or complaints[:1]
    expected, found, remedy = _unknown_keys(told, recipe) if unknown else _wrong_value(told[0])
    places = {_place(complaint) for complaint in told}
    # "missing": a key is missing where its name is misspelt, which is no second fault
    others = [_place(each) for each in complaints if each["type"] != "missing"]
    others = [place for place in dict.fromkeys(others) if place not in places]
    if others:
        found += f" (also wrong: {', '.join(others)})"
    return RecipeError(source, expected=expected, found=found, remedy=remedy)


def in_words(value: object) -> str:
    """A value as the author of a recipe knows it, short whatever its size."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else _shortened.repr(value)


def _is_about_a_key(complaint: ErrorDetails) -> bool:
    return complaint["type"] in _UNKNOWN_KEY or _is_about_a_mappings_key(complaint)


def _is_about_a_mappings_key(complaint: ErrorDetails) -> bool:
    return complaint["loc"][-1:] == (_KEY_MARK,) and complaint["type"] in {"enum", "string_type"}


def _path(complaint: ErrorDetails) -> list[str]:
    parts = [str(part) for part in complaint["loc"]]
    return parts[:-1] if _is_about_a_mappings_key(complaint) else parts


def _place(complaint: ErrorDetails) -> str:
    return ".".join(_path(complaint))


def _wrong_value(complaint: ErrorDetails) -> tuple[str, str, str]:
    """What is expected, what is found, and the remedy."""
    place, kind = _place(complaint), complaint["type"]
    if kind == "conflict":
        expected = f"keys of {place} that go together" if place else "keys that go together"
        return expected, complaint["ctx"]["found"], complaint["ctx"]["remedy"]
    found = in_words(complaint["input"])
    if kind == "missing":
        return f"the key {place}", found, "write it too"
    if kind in {"model_type", "dict_type"}:
        return f"a mapping of keys for {place}", found, f"fill {place} with keys or leave it out"
    return f"a valid value for {place}", found, _REMEDIES.get(kind, sentence(complaint))


def _unknown_keys(
    complaints: Sequence[ErrorDetails], recipe: type[BaseModel]
) -> tuple[str, str, str]:
    """What is expected, what is found, and the remedy."""
    near = {_place(each): _suggestions(recipe, _path(each)) for each in complaints}
    if len(near) > 1:
        found = f"the keys {_joined(map(repr, near), 'and')}"
        remedies = [
            f"write {_joined(map(repr, names), 'or')} for {place!r}"
            if names
            else f"take out {place!r}"
            for place, names in near.items()
        ]
        return "known recipe keys", found, _joined(remedies, "and")
    [(place, names)] = near.items()
    section = _path(complaints[0])[:-1]
    known = ", ".join(_keys(recipe, section))
    remedy = f"the keys{' of ' + '.'.join(section) if section else ''} are {known}"
    if names:
        remedy = f"did you mean {_joined(map(repr, names), 'or')}?"
    elif not known:
        remedy = "write it in quotes, as a pattern of module names"
    return "known recipe keys", f"the key {place!r}", remedy


def _suggestions(recipe: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that the author of an unknown key may have meant, from the likeliest kind."""
    *section, key = path
    everywhere = [*recipe.model_fields]
    for name, field in recipe.model_fields.items():
        everywhere += [f"{name}.{inner}" for inner in _keys(field.annotation, [])]
    moved = [name for name in everywhere if name.rpartition(".")[2] == key]
    if moved:
        return moved
    beside = difflib.get_close_matches(key.lower(), _keys(recipe, section), n=1)
    if beside:
        return [".".join([*section, *beside])]
    words = {name.rpartition(".")[2]: name for name in everywhere}
    return [words[word] for word in difflib.get_close_matches(key.lower(), words, 1, _SAME_WORD)]


def _keys(annotation: Any, path: Sequence[str]) -> list[str]:
    """The keys that are allowed at `path` of a value of the type `annotation`, if any are fixed."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        if not path:
            return list(fields)
        return _keys(fields[path[0]].annotation, path[1:]) if path[0] in fields else []
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        key, value = arguments
        return _keys(value, path[1:]) if path else _keys(key, path)
    if annotation is Component:
        return [component.value for component in Component]
    # Annotated[Scheme, …] or Pattern | None
    return next((keys for argument in arguments if (keys := _keys(argument, path))), [])


def _joined(words: Iterable[str], conjunction: str) -> str:
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
