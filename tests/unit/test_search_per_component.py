import numpy as np
import pytest

from nxmi_export.search.budget import Budget, SizeBudget, feasible
from nxmi_export.search.conditional import Marginals, changes_of
from nxmi_export.search.per_component import centres, promising
from nxmi_export.search.sensitivity import Sensitivity
from nxmi_export.search.space import DEFAULT_SCHEMES, Candidate, SearchSpace
from tests.tiny_models import tiny_model

BUDGET = Budget(size=SizeBudget(0.125, metadata=True))


def _space() -> SearchSpace:
    model = tiny_model(num_hidden_layers=2, intermediate_size=128)
    return SearchSpace.of(model, "component", DEFAULT_SCHEMES)


def _around(space: SearchSpace, *, flat: bool = False) -> list[Marginals]:
    generator = np.random.default_rng(0)
    return [
        Marginals(
            space,
            centre,
            {
                probe: Sensitivity(1.0 if flat else float(generator.exponential()), 0.0)
                for probe in changes_of(space, centre)
            },
        )
        for centre in centres(space, BUDGET)
    ]


def test_all_that_the_budget_admits_come_by_their_prediction() -> None:
    space = _space()
    around = _around(space)
    found = promising(around, BUDGET)
    assert sorted(found) == sorted(feasible(space, BUDGET))
    assert list(found.values()) == sorted(found.values())
    assert len(found) == 905  # as published; the tiny model has BERT's proportions
    for candidate, divergence in list(found.items())[::100]:
        expected = np.mean([each.predicted(candidate) for each in around])
        assert divergence == pytest.approx(expected)


def test_equal_predictions_come_in_the_order_of_their_schemes() -> None:
    found = promising(_around(_space(), flat=True), BUDGET)
    assert list(found) == sorted(found)


def test_changes_are_measured_of_the_uniform_candidates_within_the_budget() -> None:
    space = _space()
    assert centres(space, BUDGET) == tuple(Candidate((each,) * 6) for each in ("int4", "2:4+int4"))
    nothing = Budget(size=SizeBudget(0.01, metadata=True))
    assert centres(space, nothing) == space.uniforms()
    assert [each.schemes for each in space.uniforms()] == [
        (str(scheme),) * 6 for scheme in DEFAULT_SCHEMES
    ]
