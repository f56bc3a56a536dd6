from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest
from accelerate import Accelerator

from nxmi_export.compression.training import processes
from nxmi_export.errors import CheckpointError, NxmiError
from nxmi_export.search.ranking import Selection
from nxmi_export.search.rounds import ROUND, score_in_rounds, shared_out, spread
from nxmi_export.search.score import Score
from nxmi_export.search.space import Candidate
from tests.unit.made_up_launch import launched

CANDIDATES = tuple(Candidate((f"{number:03}",)) for number in range(50))
SELECTION = Selection("divergence", 5, 0.05)


def _accelerator(rank: int = 0, count: int = 1) -> Accelerator:
    """What the functions under test read of one."""

    class Process:
        process_index, num_processes, is_main_process = rank, count, rank == 0

    return cast("Accelerator", Process())


def _value(candidate: Candidate) -> float:
    return (37 * int(candidate.schemes[0]) % 50) / 50


def _bars(known: Mapping[Candidate, Score]) -> tuple[dict[Candidate, Score], dict[Candidate, Any]]:
    """The scores, and the bar that each candidate was held against when it was scored."""
    bars: dict[Candidate, Any] = {}

    def score(candidate: Candidate, bar: Score | None) -> Score:
        bars[candidate] = bar
        stopped = bar is not None and _value(candidate) > bar.divergence
        return Score(3 if stopped else 10, _value(candidate), None, stopped)

    scores = score_in_rounds(
        CANDIDATES,
        score,
        selection=SELECTION,
        known=known,
        accelerator=_accelerator(),
        on_score=lambda candidate, score: None,
    )
    return scores, bars


def test_the_first_round_is_scored_whole_and_each_round_has_one_bar() -> None:
    scores, bars = _bars({})
    assert [bars[each] for each in CANDIDATES[:5]] == [None] * 5
    for start in range(5, 50, ROUND):
        members = CANDIDATES[start : start + ROUND]
        before = {each: scores[each] for each in CANDIDATES[:start]}
        assert {bars[each] for each in members} == {SELECTION.bar(before)}
    assert list(scores) == list(CANDIDATES)


def test_the_best_are_those_of_scoring_everything() -> None:
    scores, _ = _bars({})
    assert SELECTION.best(scores) == tuple(sorted(CANDIDATES, key=_value)[:5])
    assert any(score.stopped for score in scores.values())


@pytest.mark.parametrize("done", [3, 5, 12, 40])
def test_what_is_known_is_not_scored_again_and_changes_nothing(done: int) -> None:
    whole, every_bar = _bars({})
    known = {each: whole[each] for each in CANDIDATES[::-1][:done]}
    again, bars = _bars(known)
    assert again == whole
    assert bars == {each: bar for each, bar in every_bar.items() if each not in known}


def _together(
    monkeypatch: pytest.MonkeyPatch, items: Sequence[int], known: Mapping[int, int], count: int
) -> list[tuple[dict[int, int], list[int], list[int]]]:
    """Of each of `count` processes the results, what it did itself, and what it told."""
    own: list[dict[int, int]] = []
    monkeypatch.setattr(processes, "gather_object", lambda values: values)
    for rank in range(count):  # first alone, to learn what each contributes
        done: dict[int, int] = {}
        _share(items, known, rank, count, done.__setitem__, [])
        own.append(done)
    monkeypatch.setattr(
        processes,
        "gather_object",
        lambda values: [None] * count if values == [None] else own,  # no errors, then results
    )
    found = []
    for rank in range(count):
        told: list[int] = []
        mine: dict[int, int] = {}
        results = _share(items, known, rank, count, mine.__setitem__, told)
        found.append((results, list(mine), told))
    return found


def _share(
    items: Sequence[int],
    known: Mapping[int, int],
    rank: int,
    count: int,
    note: Callable[[int, int], None],
    told: list[int],
) -> dict[int, int]:
    def work(item: int) -> int:
        note(item, item * item)
        return item * item

    try:
        return shared_out(
            items,
            work,
            known=known,
            accelerator=_accelerator(rank, count),
            on_result=lambda item, result: told.append(item),
        )
    except KeyError:  # of the rehearsal, in which the others' results are missing
        return {}


def test_processes_divide_what_is_left_and_all_have_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items, known = range(10), {2: 4, 3: 9}
    processes = _together(monkeypatch, items, known, 3)
    assert [results for results, _, _ in processes] == [{i: i * i for i in items}] * 3
    done = [item for _, mine, _ in processes for item in mine]
    assert sorted(done) == [item for item in items if item not in known]
    assert max(len(mine) for _, mine, _ in processes) == 3


def test_the_main_process_alone_tells_and_tells_of_each_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes = _together(monkeypatch, range(10), {2: 4}, 3)
    (_, _, of_main), *others = processes
    assert sorted(of_main) == list(range(10))
    assert [told for _, _, told in others] == [[], []]


def test_all_hear_of_each_other_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, seen = list[int](), list[int]()

    def run(accelerator: Any) -> dict[int, int]:
        def work(item: int) -> int:
            begun.append(item)
            return item * item

        def hear(item: int, result: int) -> None:
            seen.append(len(begun) - len(seen))  # begun and not told of

        return shared_out(range(40), work, known={}, accelerator=accelerator, on_result=hear)

    assert launched(monkeypatch, 2, run) == [{item: item * item for item in range(40)}] * 2
    assert max(seen) <= 8


def test_processes_spread_items_that_have_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    items, done = [{"is": place} for place in range(5)], list[tuple[int, int]]()

    def run(accelerator: Any) -> list[int]:
        def work(item: dict[str, int]) -> int:
            done.append((accelerator.process_index, item["is"]))
            return item["is"] ** 2

        return spread(items, work, accelerator)

    assert launched(monkeypatch, 3, run) == [[0, 1, 4, 9, 16]] * 3
    assert sorted(done) == [(0, 0), (0, 3), (1, 1), (1, 4), (2, 2)]


def test_the_main_process_raises_what_was_wrong_with_anothers_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = {"expected": "finite logits", "found": "NaN", "remedy": "train it again"}
    error = CheckpointError("item 1", **parts)

    def work(item: int) -> int:
        if item == 1:
            raise error
        return item

    def share(rank: int) -> None:
        shared_out(
            range(4),
            work,
            known={},
            accelerator=_accelerator(rank, 2),
            on_result=lambda item, result: None,
        )

    told: list[Any] = []
    monkeypatch.setattr(processes, "gather_object", lambda own: told.extend(own) or [None, *own])
    with pytest.raises(CheckpointError):
        share(1)
    assert told == [(CheckpointError, "item 1", parts)]
    monkeypatch.setattr(processes, "gather_object", lambda own: [*own, *told])
    with pytest.raises(NxmiError) as raised:
        share(0)
    assert (type(raised.value), str(raised.value)) == (CheckpointError, str(error))
