"""Work items in, the result of each out, done by all processes of a launch together.

What an item's result depends on is settled before its round begins. So it does not matter which
process does which item, nor how many there are, nor which items an earlier attempt has done: the
results are the same.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from accelerate import Accelerator

from nxmi_export.compression.training.processes import failing_together, told_by_all
from nxmi_export.search.ranking import Selection
from nxmi_export.search.score import Score
from nxmi_export.search.space import Candidate

__all__ = ["ROUND", "score_in_rounds", "shared_out", "spread"]

ROUND = 16  # items; a divisor of many processes' work, and few enough that the bar keeps falling
# Items of a process before all hear of them: an interruption loses no more, and few enough waits.
_BETWEEN_TELLING = 4

Item = TypeVar("Item", bound=Hashable)
Work = TypeVar("Work")
Result = TypeVar("Result")


def shared_out(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    *,
    known: Mapping[Item, Result],
    accelerator: Accelerator,
    on_result: Callable[[Item, Result], None],
) -> dict[Item, Result]:
    """The result of each of `items`, in their order, in every process.

    Those in `known`, which is the same in all processes, are not done again. `on_result` hears of
    each, known ones too, in the main process: of its own as they are done, of the others' whenever
    each process has done a few. Results are plain data, as they travel. What `work` raises in one
    process is raised in all.
    """
    missing = [item for item in items if item not in known]
    for item in items:
        if item in known and accelerator.is_main_process:
            on_result(item, known[item])
    found: dict[Item, Result] = dict(known)
    at_once = _BETWEEN_TELLING * accelerator.num_processes
    for start in range(0, len(missing), at_once):
        own: dict[Item, Result] = {}
        with failing_together(accelerator):
            members = missing[start : start + at_once]
            for item in members[accelerator.process_index :: accelerator.num_processes]:
                own[item] = work(item)
                if accelerator.is_main_process:
                    on_result(item, own[item])
        for rank, results in enumerate(told_by_all(accelerator, own)):
            found.update(results)
            if accelerator.is_main_process and rank != accelerator.process_index:
                for item, result in results.items():
                    on_result(item, result)
    return {item: found[item] for item in items}


def spread(
    items: Sequence[Work], work: Callable[[Work], Result], accelerator: Accelerator
) -> list[Result]:
    """The result of each of `items`, in their order, in every process; else as `shared_out`."""
    found = shared_out(
        range(len(items)),
        lambda place: work(items[place]),
        known={},
        accelerator=accelerator,
        on_result=lambda place, result: None,
    )
    return list(found.values())


def score_in_rounds(
    candidates: Sequence[Candidate],
    score: Callable[[Candidate, Score | None], Score],
    *,
    selection: Selection,
    known: Mapping[Candidate, Score],
    accelerator: Accelerator,
    on_score: Callable[[Candidate, Score], None],
    before: Mapping[Candidate, Score] = MappingProxyType({}),
) -> dict[Candidate, Score]:
    """The score of every candidate, where `score` is told the score to beat.

    That is the one when the candidate's round began, of these candidates and those scored
    `before`. The first round is just large enough that there is one.
    """
    scores: dict[Candidate, Score] = {}
    first = selection.keep if selection.bar(before) is None else ROUND
    for members in _rounds(candidates, first):
        bar = selection.bar({**before, **scores})
        scores |= shared_out(
            members,
            lambda candidate, bar=bar: score(candidate, bar),  # type: ignore[misc]
            known=known,
            accelerator=accelerator,
            on_result=on_score,
        )
    return scores


def _rounds(candidates: Sequence[Candidate], first: int) -> Iterator[Sequence[Candidate]]:
    yield candidates[:first]
    for start in range(first, len(candidates), ROUND):
        yield candidates[start : start + ROUND]
