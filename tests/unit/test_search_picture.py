from types import SimpleNamespace
from typing import Any

import pytest

from nxmi_export.errors import DataError, UsageError
from nxmi_export.recipe import Scheme
from nxmi_export.search.score import Score
from nxmi_export.search.space import SearchSpace
from nxmi_export.workflow.search.journal import Journal
from nxmi_export.workflow.search.picture import _scores
from tests.tiny_models import tiny_model


def test_what_has_no_finite_outputs_is_left_out_and_what_is_complete_is_not_scored_again() -> None:
    space = SearchSpace.of(tiny_model(), "component", tuple(map(Scheme.parse, ("int8", "int4"))))
    complete, bad = space.uniforms()
    told: list[Any] = []

    def score(schemes: Any) -> Score:
        raise DataError("logits", expected="finite numbers", found="nan", remedy="none")

    stage: Any = SimpleNamespace(
        tell=told.append,
        ready=SimpleNamespace(scorer=SimpleNamespace(score=score)),
        problem=SimpleNamespace(
            accelerator=SimpleNamespace(process_index=0, num_processes=1, is_main_process=True)
        ),
    )
    known = {complete: Score(8, 0.1, 0.5, stopped=False), bad: Score(4, 0.2, None, stopped=True)}
    assert _scores(stage, space, [complete, bad, bad], known) == {complete: known[complete]}
    assert [each.number for each in told[1:]] == [1, 2]


def test_a_journal_of_other_threads_names_the_variable_that_sets_them(tmp_path: Any) -> None:
    with Journal(tmp_path / "search.jsonl", {"threads": "2", "seed": "0"}):
        pass
    with pytest.raises(UsageError, match="made with, OMP_NUM_THREADS among them, or pass"):
        Journal(tmp_path / "search.jsonl", {"threads": "1", "seed": "0"})
