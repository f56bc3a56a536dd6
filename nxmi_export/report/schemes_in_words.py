"""The schemes of one configuration in, a phrase that tells it from others out."""

from collections import Counter
from collections.abc import Mapping

__all__ = ["schemes_in_words"]

_NAMED = 6  # groups, as many as there are components; more are counted


def schemes_in_words(schemes: Mapping[str, str]) -> str:
    """`schemes` maps groups, components or module names, to schemes.

    "int4 everywhere"; "int4: query, key; 2:4+int8: value"; of more groups "20 int4, 16 2:4+int8".
    """
    members: dict[str, list[str]] = {}
    for group, text in schemes.items():
        members.setdefault(text, []).append(group.replace("_", " "))
    if len(members) == 1:
        return f"{next(iter(members))} everywhere"
    if len(schemes) <= _NAMED:
        return "; ".join(f"{text}: {', '.join(groups)}" for text, groups in members.items())
    return ", ".join(f"{count} {text}" for text, count in Counter(schemes.values()).most_common())
