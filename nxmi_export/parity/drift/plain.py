"""Facts in, JSON's own types out."""

import math
from enum import Enum
from typing import Any

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """`value` as JSON has it: lists for tuples, null for NaN and infinity, texts for enums."""
    match value:
        case Enum():
            return value.value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return value
