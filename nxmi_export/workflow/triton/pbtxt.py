"""A message as nested Python values in, protobuf's text format out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Symbol", "to_pbtxt"]

_INDENT = "  "


class Symbol(NamedTuple):
    """A value of an enumeration, which is written without quotes."""

    name: str


def to_pbtxt(message: Mapping[str, Any], *, comment: Sequence[str] = ()) -> str:
    """One field a line, comment lines first.

    A mapping is a message, a list a repeated field, one entry after the other; strings (in ASCII),
    integers, truth values and symbols are scalars.
    """
    lines = [f"# {line}" for line in comment]
    return "\n".join((*lines, *_fields(message, ""))) + "\n"


def _fields(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in message.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                yield f"{indent}{name} {{"
                yield from _fields(each, indent + _INDENT)
                yield f"{indent}}}"
            else:
                yield f"{indent}{name}: {_scalar(each)}"


def _scalar(value: str | int | bool | Symbol) -> str:
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    # JSON's escapes of ASCII are protobuf's too.
    return json.dumps(value) if isinstance(value, str) else str(value)
