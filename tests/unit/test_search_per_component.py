from nxmi_export.search.budget import Budget, SizeBudget, feasible
from nxmi_export.search.per_component import promising
from tests.unit.made_up_sensitivities import made_up

BUDGET = Budget(size=SizeBudget(0.125, metadata=True))


def test_all_that_the_budget_admits_come_by_their_prediction() -> None:
    sensitivities = made_up("component")
    found = promising(sensitivities, BUDGET)
    assert sorted(found) == sorted(feasible(sensitivities.space, BUDGET))
    predicted = [sensitivities.with_interactions(each) for each in found]
    assert predicted == sorted(predicted)
    assert len(found) == 905  # as published; the tiny model has BERT's proportions


def test_equal_predictions_come_in_the_order_of_their_schemes() -> None:
    sensitivities = made_up("component", flat=True)
    found = promising(sensitivities, BUDGET)
    assert list(found) == sorted(found)
