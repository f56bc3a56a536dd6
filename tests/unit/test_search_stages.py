import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nxmi_export.recipe import Scheme
from nxmi_export.search.progress import CandidateScored, Origin
from nxmi_export.search.ranking import Selection
from nxmi_export.search.score import Score
from nxmi_export.search.space import SearchSpace
from nxmi_export.workflow.search.journal import Known
from nxmi_export.workflow.search.leaderboard import Leaderboard
from nxmi_export.workflow.search.stages import Stage
from tests.tiny_models import tiny_model


def _stage(
    searches: int, tell: Callable[[Any], None] = lambda progress: None, **request: object
) -> Stage:
    asked = {"objective": "divergence", "keep": 5, "error": 0.05, "refinements": 2} | request
    problem: Any = SimpleNamespace(
        request=SimpleNamespace(metadata=True, **asked),
        spaces=range(searches),
        latency=None,
        data=SimpleNamespace(slice=range(100)),
    )
    ready: Any = None
    return Stage(problem, ready, Known(), None, tell)


@pytest.mark.parametrize(("origin", "centres"), [("component", 0), ("layer", 2)])
def test_refinements_of_the_search_per_layer_have_their_share_of_its_error(
    origin: Origin, centres: int
) -> None:
    assert _stage(1).selection(origin) == Selection("divergence", 5, 0.05, centres)
    assert _stage(2).selection(origin) == Selection("divergence", 5, 0.025, centres)
    assert _stage(1, refinements=0).selection(origin).centres == 0


def test_each_score_is_told_with_the_best_so_far_and_without_looking_at_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = SearchSpace.of(tiny_model(), "component", tuple(map(Scheme.parse, ("int8", "int4"))))
    candidates = tuple(itertools.islice(space.candidates(), 60))
    costs = np.random.default_rng(0).permutation(60) / 60
    scores = {
        candidate: Score(10 if number % 3 else 100, float(cost), 0.5, stopped=bool(number % 3))
        for number, (candidate, cost) in enumerate(zip(candidates, costs, strict=True))
    }
    before = {candidate: scores.pop(candidate) for candidate in candidates[:9]}
    selection, told = Selection("divergence", 3, 0.05), list[CandidateScored]()
    expected = [
        [each.name for each in selection.best({**before, **dict(list(scores.items())[:count])})]
        for count in range(1, len(scores) + 1)
    ]
    stage = _stage(1, told.append)
    stage.known.scores["component"] |= dict(list(scores.items())[:20])
    ordered, looked_at = Selection.ordered, list[int]()

    def counting(selection: Selection, scores: Any) -> Any:
        looked_at.append(len(scores))
        return ordered(selection, scores)

    monkeypatch.setattr(Selection, "ordered", counting)
    board = Leaderboard(
        *(stage.problem, None, stage.known.scores["component"], told.append),
        space=space,
        selection=selection,
        total=len(scores),
        refinement=0,
        best=before,
    )
    for candidate, score in scores.items():
        board.add(candidate, score)
    assert [[each.name for each in report.leaders] for report in told] == expected
    assert [report.number for report in told] == list(range(1, len(scores) + 1))
    assert [report.reused for report in told][18:22] == [19, 20, 20, 20]
    assert told[-1].stopped == sum(each.stopped for each in scores.values())
    assert told[-1].examples == sum(each.examples for each in scores.values())
    assert max(looked_at[1:]) == 4  # the kept and the new one
