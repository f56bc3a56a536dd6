"""A set that has a property in, a part of it that has it too and cannot lose any member out."""

from collections.abc import Callable, Sequence
from itertools import pairwise

__all__ = ["ddmin"]


def ddmin(
    items: Sequence[str],
    holds: Callable[[tuple[str, ...]], bool],
    *,
    on_smaller: Callable[[tuple[str, ...]], None] = lambda items: None,
) -> tuple[str, ...]:
    """Zeller and Hildebrandt (2002), "Simplifying and isolating failure-inducing input", fig. 3.

    `holds(items)` must be true, and `holds(())` false. The result is 1-minimal: without any one of
    its members the property is gone. That asks at most |items|² + 3·|items| questions, and about
    2·log₂|items| where one item alone is responsible. The property need not be monotone. The order
    of `items` is kept and decides which of several answers is found. `on_smaller` hears of every
    smaller set on the way, for the case that `holds` ends the search by raising.
    """
    current = tuple(items)
    parts = 2
    while len(current) >= 2:
        subsets = _split(current, parts)
        smaller, parts_then = _reduced(current, subsets, holds)
        if smaller is not None:
            current, parts = smaller, min(parts_then, len(smaller))
            on_smaller(current)
        elif parts < len(current):
            parts = min(2 * parts, len(current))
        else:
            break
    return current


def _reduced(
    current: tuple[str, ...],
    subsets: list[tuple[str, ...]],
    holds: Callable[[tuple[str, ...]], bool],
) -> tuple[tuple[str, ...] | None, int]:
    """The first subset, or else complement of one, that holds, and how finely to cut it next."""
    for subset in subsets:
        if holds(subset):
            return subset, 2
    if len(subsets) > 2:  # the complement of one half is the other
        for subset in subsets:
            rest = tuple(item for item in current if item not in subset)
            if holds(rest):
                return rest, max(len(subsets) - 1, 2)
    return None, 0


def _split(items: tuple[str, ...], parts: int) -> list[tuple[str, ...]]:
    """`parts` runs of nearly equal length."""
    edges = [len(items) * part // parts for part in range(parts + 1)]
    return [items[start:end] for start, end in pairwise(edges)]
