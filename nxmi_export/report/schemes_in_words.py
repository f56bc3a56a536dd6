"""The schemes of a configuration in, phrases about them out."""

from collections import Counter
from collections.abc import Iterable, Mapping

from nxmi_export.recipe import Placement

__all__ = ["int4_as_stored", "schemes_in_words"]

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


def int4_as_stored(bits: Iterable[int | None], placement: Placement) -> tuple[str, ...]:
    """What files hold of INT4, where that is more than 4 bits; nothing where none of `bits` is 4.

    Only products on floats read packed codes.
    """
    if placement is Placement.WEIGHTS or 4 not in bits:
        return ()
    return (
        f"under placement: {placement} files hold INT4 weights as codes of 8 bits each; packed to "
        "4 they are under placement: weights, by export --int4-blocks",
    )
