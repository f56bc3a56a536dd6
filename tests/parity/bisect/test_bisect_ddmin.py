"""Delta debugging: what is found is enough, nothing in it is superfluous, and questions are few."""

from collections.abc import Callable

import hypothesis.strategies as st
from hypothesis import given

from nxmi_export.parity.bisect import ddmin

ITEMS = tuple("abcdefghijklmnop")


def _asking(
    holds: Callable[[frozenset[str]], bool],
) -> tuple[Callable[[tuple[str, ...]], bool], list[tuple[str, ...]]]:
    asked: list[tuple[str, ...]] = []

    def ask(items: tuple[str, ...]) -> bool:
        asked.append(items)
        return holds(frozenset(items))

    return ask, asked


def test_one_culprit_is_found_by_halving() -> None:
    ask, asked = _asking(lambda items: "k" in items)
    assert ddmin(ITEMS, ask) == ("k",)
    assert len(asked) <= 2 * 4


def test_two_culprits_far_apart_are_found_together() -> None:
    ask, _ = _asking(lambda items: {"a", "p"} <= items)
    assert ddmin(ITEMS, ask) == ("a", "p")


def test_the_example_of_the_paper() -> None:
    # Eight items of which 1, 7 and 8 fail together (Zeller and Hildebrandt, 2002, table 2).
    ask, _ = _asking(lambda items: {"1", "7", "8"} <= items)
    assert ddmin(tuple("12345678"), ask) == ("1", "7", "8")


def test_where_all_are_needed_all_stay() -> None:
    ask, asked = _asking(lambda items: len(items) == len(ITEMS))
    assert ddmin(ITEMS, ask) == ITEMS
    assert len(asked) <= len(ITEMS) ** 2 + 3 * len(ITEMS)


def test_every_smaller_set_is_reported_on_the_way() -> None:
    seen: list[tuple[str, ...]] = []
    ddmin(("a", "b", "c", "d"), lambda items: "d" in items, on_smaller=seen.append)
    assert seen == [("c", "d"), ("d",)]


@given(st.sets(st.frozensets(st.sampled_from(ITEMS[:8]), min_size=1), min_size=1))
def test_the_answer_holds_and_no_member_can_leave(alternatives: set[frozenset[str]]) -> None:
    def holds(items: tuple[str, ...]) -> bool:
        return any(each <= set(items) for each in alternatives)

    found = ddmin(ITEMS[:8], holds)
    assert holds(found)
    assert not any(holds(tuple(set(found) - {item})) for item in found)


@given(st.sets(st.frozensets(st.sampled_from(ITEMS[:6]), min_size=1)))
def test_a_property_that_is_not_monotone_still_ends_minimal(answers: set[frozenset[str]]) -> None:
    everything = frozenset(ITEMS[:6])

    def holds(items: tuple[str, ...]) -> bool:
        return frozenset(items) in answers | {everything}

    found = ddmin(ITEMS[:6], holds)
    assert holds(found)
    assert not any(holds(tuple(i for i in found if i != item)) for item in found if len(found) > 1)
