"""Texts such as "dense:compressed" in, pairs of a ladder's rungs out."""

from collections.abc import Sequence

from nxmi_export.errors import UsageError
from nxmi_export.parity import Stage

__all__ = ["rung_pairs"]

_SHOW_NO_LAYERS = (Stage.OPENVINO, Stage.ENGINE)
_RUNGS = tuple(stage for stage in Stage if stage not in _SHOW_NO_LAYERS)


def rung_pairs(texts: Sequence[str]) -> tuple[tuple[Stage, Stage], ...]:
    """Each text's reference and candidate; raises UsageError for what is no two different rungs."""
    return tuple(map(_pair, texts))


def _pair(text: str) -> tuple[Stage, Stage]:
    names = text.split(":")
    if len(names) != 2 or not set(names) <= set(_RUNGS) or names[0] == names[1]:
        raise UsageError(
            "--layer-errors",
            expected=f"two different rungs of {', '.join(_RUNGS)}, with a colon between them",
            found=repr(text),
            remedy="write for example dense:compressed",
        )
    return Stage(names[0]), Stage(names[1])
