import itertools

import numpy as np
import pytest

from nxmi_export.errors import UsageError
from nxmi_export.search.budget import Budget, LatencyBudget, SizeBudget
from nxmi_export.search.frontier import POINTS, frontier
from nxmi_export.search.latency_model import LatencyModel, LinearLatency
from nxmi_export.search.per_layer import proposals
from nxmi_export.search.program import Effort
from nxmi_export.search.refine import refined
from nxmi_export.search.sensitivity import Sensitivities
from nxmi_export.search.size import size_of
from nxmi_export.search.solve import solve
from nxmi_export.search.space import Candidate, schemes_of
from tests.unit.made_up_sensitivities import made_up

BUDGET = Budget(size=SizeBudget(0.125, metadata=True))
TIGHT = Budget(size=SizeBudget(0.05, metadata=True))


def _neighbours(sensitivities: Sensitivities, candidate: Candidate) -> list[Candidate]:
    """All that differ in one or two groups."""
    groups = sensitivities.space.groups
    found = []
    for pair in itertools.combinations(range(len(groups)), 2):
        for texts in itertools.product(*(groups[index].by_text for index in pair)):
            schemes = list(candidate.schemes)
            for index, text in zip(pair, texts, strict=True):
                schemes[index] = text
            found.append(Candidate(tuple(schemes)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_descent_ends_where_no_change_of_two_groups_helps(seed: int) -> None:
    sensitivities = made_up(seed=seed)
    start = solve(sensitivities.space, sensitivities.losses, BUDGET)[0].candidate
    end = refined(sensitivities, BUDGET, start)
    assert BUDGET.admits(sensitivities.space, end)
    value = sensitivities.with_interactions
    assert value(end) <= value(start)
    nearby = [
        each for each in _neighbours(sensitivities, end) if BUDGET.admits(sensitivities.space, each)
    ]
    assert len(nearby) > 100
    assert min(map(value, nearby)) >= value(end) - 1e-9


def test_interactions_change_the_choice() -> None:
    seeds = range(5)
    changed = 0
    for seed in seeds:
        sensitivities = made_up(seed=seed)
        optimum = solve(sensitivities.space, sensitivities.losses, BUDGET)[0].candidate
        changed += refined(sensitivities, BUDGET, optimum) != optimum
    assert changed


def test_without_interactions_the_optimum_stays() -> None:
    sensitivities = made_up(seed=1)
    still = Sensitivities(
        sensitivities.space,
        sensitivities.measured,
        type(sensitivities.curvature)(
            {key: np.zeros(1) for key in sensitivities.curvature.effects}
        ),
    )
    optimum = solve(still.space, still.losses, BUDGET)[0].candidate
    assert refined(still, BUDGET, optimum) == optimum


def test_proposals_are_new_admitted_and_ordered() -> None:
    sensitivities = made_up()
    known = {each.candidate for each in solve(sensitivities.space, sensitivities.losses, BUDGET)}
    heard: list[int] = []
    found = proposals(sensitivities, BUDGET, 6, known=known, on_found=heard.append).candidates
    assert len(set(found)) == len(found) == 6
    assert not known & set(found)
    assert all(BUDGET.admits(sensitivities.space, each) for each in found)
    predicted = [sensitivities.with_interactions(each) for each in found]
    assert predicted == sorted(predicted)
    assert heard[-1] == 6


def test_what_is_to_be_included_comes_on_top() -> None:
    sensitivities = made_up()
    included = [
        each for each in sensitivities.space.uniforms() if BUDGET.admits(sensitivities.space, each)
    ]
    assert len(included) == 2
    without = proposals(sensitivities, BUDGET, 2).candidates
    found = proposals(sensitivities, BUDGET, 2, included=included).candidates
    assert set(found) == {*without, *included}
    known = included[:1]
    found = proposals(sensitivities, BUDGET, 2, included=included, known=known).candidates
    assert set(found) == {*without, *included[1:]}


def test_proposals_hold_the_solvers_best_and_where_the_starts_lead() -> None:
    sensitivities = made_up()
    rng = np.random.default_rng(0)
    space = sensitivities.space
    starts = [space.random(rng, lambda c: BUDGET.admits(space, c)) for _ in range(2)]
    found = proposals(sensitivities, BUDGET, 6, starts=starts).candidates
    best = solve(space, sensitivities.losses, BUDGET)[0].candidate
    led = {refined(sensitivities, BUDGET, each) for each in (best, *starts)}
    assert led <= set(found)
    assert best in found


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_proved_and_proposed_however_quick_the_others_are(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nxmi_export.search.per_layer.QUICK", Effort(gap=0.9, nodes=1))
    sensitivities = made_up(seed=seed)
    found = proposals(sensitivities, BUDGET, 6)
    [best] = solve(sensitivities.space, sensitivities.losses, BUDGET)
    assert best.candidate in found.candidates
    assert found.gap == 0


def test_what_the_solver_leaves_open_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sensitivities, lax = made_up(), Effort(gap=0.9, nodes=1)
    monkeypatch.setattr("nxmi_export.search.per_layer.THOROUGH", lax)
    found = proposals(sensitivities, BUDGET, 3)
    [first] = solve(sensitivities.space, sensitivities.losses, BUDGET, effort=lax)
    assert found.gap == first.gap > 0


def test_a_budget_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        proposals(made_up(), TIGHT, 3)
    assert str(error.value) == (
        "budget of the search: expected a candidate of at most 0.05 of the float32 size with "
        "metadata, found 0.0938 of the float32 size with metadata at best; raise it, "
        "or allow smaller or faster schemes"
    )


def _latency(sensitivities: Sensitivities) -> LatencyModel:
    linears = tuple(
        LinearLatency(
            group.name, {"float": 4e-3, "int8": 2e-3, "int8 out": 2e-3, "int8 2:4": 1e-3}, ()
        )
        for group in sensitivities.space.groups
    )
    return LatencyModel(linears, 1e-3, "analytical", "made up")


def test_the_frontier_never_predicts_more_loss_for_more_room() -> None:
    sensitivities = made_up()
    heard: list[tuple[int, int]] = []
    points = frontier(
        sensitivities,
        metadata=True,
        latency=_latency(sensitivities),
        on_found=lambda number, total: heard.append((number, total)),
    )
    assert heard == [(number, 2 * POINTS) for number in range(1, 2 * POINTS + 1)]
    space = sensitivities.space
    sizes = [size_of(space, p.candidate, metadata=True) for p in points if p.swept == "size"]
    losses = [point.predicted for point in points if point.swept == "size"]
    assert sizes == sorted(sizes)
    assert losses == sorted(losses, reverse=True)
    assert len(sizes) > 3
    assert sizes[0] == pytest.approx(3 / 32)  # 2:4+int4 everywhere
    least = sum(
        min(sensitivities.of(group.name, text) for text in group.by_text) for group in space.groups
    )
    assert losses[-1] == pytest.approx(least)


def test_the_frontier_of_latencies_keeps_to_the_model() -> None:
    sensitivities = made_up()
    model, space = _latency(sensitivities), sensitivities.space
    points = [
        point
        for point in frontier(sensitivities, metadata=True, latency=model)
        if point.swept == "seconds"
    ]
    seconds = [model.seconds(schemes_of(space, point.candidate)) for point in points]
    assert seconds == sorted(seconds)
    assert seconds[0] == pytest.approx(1e-3 + 12 * 1e-3)
    best = solve(space, sensitivities.losses, Budget(latency=LatencyBudget(seconds[1], model)))[0]
    assert points[1].predicted == pytest.approx(best.loss)


def test_where_nothing_costs_anything_the_frontier_is_one_point() -> None:
    points = frontier(made_up(flat=True), metadata=True, latency=None)
    assert {point.predicted for point in points} == {12.0}
