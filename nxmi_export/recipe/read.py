"""Files of settings in, plain data out: YAML 1.2 or JSON, in which every key is written once."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from nxmi_export.errors import RecipeError, UsageError

__all__ = ["read_plain_data"]

_BOOL = "tag:yaml.org,2002:bool"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_KEPT = {"tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"}


def read_plain_data(
    path: Path, what: str = "recipe", error_kind: type[UsageError] = RecipeError
) -> Any:
    """The mappings, lists, texts and numbers of a YAML file, or of a JSON file by its suffix.

    Raises `error_kind` if the `what` file cannot be read, is neither, or names a key twice.
    """
    text = _text(path, what, error_kind)
    is_json = path.suffix.lower() == ".json"
    try:
        return _json(text) if is_json else yaml.load(text, _Loader)  # a SafeLoader
    # RecursionError: thousands of brackets; ValueError: also a number of thousands of digits
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise error_kind(
            path,
            expected=f"a file in {'JSON' if is_json else 'YAML'}",
            found=_place_and_problem(error),
            remedy="correct the file there",
        ) from error


def _text(path: Path, what: str, error_kind: type[UsageError]) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError as error:
        raise error_kind(
            path,
            expected=f"a {what} file in UTF-8",
            found=f"the byte 0x{error.object[error.start]:02x} at offset {error.start}",
            remedy="save it as UTF-8, or name another file",
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise error_kind(
            path,
            expected=f"a {what} file",
            found=_why_unreadable(error),
            remedy="check the path",
        ) from error


def _why_unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a directory"
    return ((isinstance(error, OSError) and error.strerror) or str(error)).lower()


def _place_and_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        problem = (error.problem or "").removeprefix("but ").removeprefix("found ")
        return f"{problem} at line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values, no tags, and no key twice in one mapping.

    PyYAML reads YAML 1.1, in which `2:4` is the base-60 number 124, `1e-4` a text, as it has no
    dot, `yes` a boolean, `010` an eight and `2024-01-01` a date.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if tag := getattr(event, "tag", None):
            raise yaml.composer.ComposerError(None, None, f"the tag {tag!r}", event.start_mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused later, as a list or a mapping cannot be a key
            if (key.tag, key.value) in seen:
                problem = f"the key {key.value!r} for the second time"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_mapping, parse_constant=_refuse_constant)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"the key {key!r} for the second time")
        mapping[key] = value
    return mapping


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name}, which is no number of JSON")
