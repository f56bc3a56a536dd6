"""The solver against looking at every candidate, on spaces small enough for that."""

import re
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeResult, milp

from nxmi_export.errors import InternalError, UsageError
from nxmi_export.latency.encoder_shapes import encoder_shapes
from nxmi_export.latency.roofline import roofline
from nxmi_export.latency.shapes import LinearShape
from nxmi_export.latency.table import KINDS, Gemm
from nxmi_export.recipe import Placement, Scheme
from nxmi_export.search.budget import Budget, LatencyBudget, SizeBudget
from nxmi_export.search.latency_model import LatencyModel, LinearLatency
from nxmi_export.search.program import (
    EXACT,
    QUICK,
    THOROUGH,
    Coefficients,
    Effort,
    Minimum,
    Program,
    at_most,
)
from nxmi_export.search.size import size_of
from nxmi_export.search.solve import Losses, Near, loss_of, solve
from nxmi_export.search.space import Candidate, Group, SearchSpace
from tests.tiny_models import tiny_model

SCHEMES = tuple(
    Scheme.parse(text) for text in ("dense", "2:4", "int8", "int4", "2:4+int8", "2:4+int4")
)


@dataclass(frozen=True)
class Problem:
    space: SearchSpace
    losses: Losses
    model: LatencyModel

    def brute_force(self, budget: Budget) -> list[tuple[float, Candidate]]:
        """Every candidate within the budget, best first, then by text."""
        return sorted(
            (loss_of(self.space, each, self.losses), each)
            for each in self.space.candidates()
            if budget.admits(self.space, each)
        )

    def seconds_of(self, candidate: Candidate) -> float:
        return LatencyBudget(1, self.model).of(self.space, candidate)


@st.composite
def problems(draw: st.DrawFn, losses: st.SearchStrategy[float]) -> Problem:
    """Two to four groups of one or two linears, whose INT8 outputs need one another at random."""
    sizes = draw(st.lists(st.integers(1, 2), min_size=2, max_size=4))
    linears = [
        tuple(f"{index}.{place}" for place in range(size)) for index, size in enumerate(sizes)
    ]
    names = [name for group in linears for name in group]
    options = st.lists(st.sampled_from(SCHEMES), min_size=1, max_size=4, unique=True).map(tuple)
    groups = tuple(
        Group(str(index), group, draw(st.integers(1, 5)) * 96, draw(options))
        for index, group in enumerate(linears)
    )
    needs = st.none() | st.lists(
        st.frozensets(st.sampled_from(names), min_size=1, max_size=3), max_size=2
    ).map(tuple)
    seconds = st.integers(1, 9).map(float)
    model = LatencyModel(
        tuple(
            LinearLatency(
                name,
                {kind: draw(seconds) for kind in KINDS},  # in any order: sparse ones may be slower
                draw(needs),
            )
            for name in names
        ),
        rest=draw(st.integers(0, 3)) * 1.0,
        source="analytical",
        device="a100",
    )
    table = {
        (name, text): draw(losses)
        for group in groups
        for name in group.linears
        for text in group.by_text
    }
    return Problem(SearchSpace("component", groups), table, model)


TIED = st.integers(-2, 2).map(float)
MEASURED = st.floats(0, 10).map(lambda loss: round(loss, 4))


def budget_at(problem: Problem, candidate: Candidate, limits: str) -> Budget:
    """Limits that the candidate keeps exactly."""
    size = SizeBudget(size_of(problem.space, candidate, metadata=True), metadata=True)
    latency = LatencyBudget(problem.seconds_of(candidate), problem.model)
    return Budget(size if "size" in limits else None, latency if "latency" in limits else None)


LIMITS = st.sampled_from(["size", "latency", "size and latency"])


@settings(deadline=None, max_examples=60)
@given(problems(TIED), LIMITS, st.integers(1, 6), st.data())
def test_the_best_ones_in_order_and_equals_by_their_texts(
    problem: Problem, limits: str, count: int, data: st.DataObject
) -> None:
    edge = data.draw(st.sampled_from(list(problem.space.candidates())))
    budget = budget_at(problem, edge, limits)
    found = solve(problem.space, problem.losses, budget, count=count)
    expected = problem.brute_force(budget)[:count]
    assert [(each.loss, each.candidate) for each in found] == expected


@settings(deadline=None, max_examples=40)
@given(problems(MEASURED), LIMITS, st.data())
def test_losses_of_any_size(problem: Problem, limits: str, data: st.DataObject) -> None:
    edge = data.draw(st.sampled_from(list(problem.space.candidates())))
    budget = budget_at(problem, edge, limits)
    expected = [loss for loss, _ in problem.brute_force(budget)[:4]]
    for unit in (1e-9, 1.0, 1e9):
        losses = {key: loss * unit for key, loss in problem.losses.items()}
        found = solve(problem.space, losses, budget, count=4)
        assert [each.loss / unit for each in found] == pytest.approx(expected, abs=1e-7)


@settings(deadline=None, max_examples=20)
@given(problems(TIED), st.data())
def test_excluded_candidates_are_left_out(problem: Problem, data: st.DataObject) -> None:
    every = list(problem.space.candidates())
    budget = budget_at(problem, data.draw(st.sampled_from(every)), "size")
    excluded = frozenset(data.draw(st.lists(st.sampled_from(every), max_size=5)))
    found = solve(problem.space, problem.losses, budget, count=5, excluded=excluded)
    expected = [each for each in problem.brute_force(budget) if each[1] not in excluded][:5]
    assert [(each.loss, each.candidate) for each in found] == expected


BERT = SearchSpace.of(tiny_model(), "component")
FLAT = {
    (linear, text): 1.0
    for group in BERT.groups
    for linear in group.linears
    for text in group.by_text
}
EIGHTH = Budget(SizeBudget(0.125, metadata=True))


def test_a_solution_says_what_it_costs() -> None:
    [nominal] = solve(BERT, FLAT, Budget(SizeBudget(0.0625, metadata=False)))
    assert nominal.candidate == BERT.uniform(Scheme.parse("2:4+int4"))
    assert (nominal.loss, nominal.size, nominal.seconds, nominal.gap) == (12.0, 2 / 32, None, 0)


def test_a_problem_without_preferences_is_answered_by_the_first_candidates() -> None:
    found = [each.candidate for each in solve(BERT, FLAT, EIGHTH, count=3)]
    within = sorted(each for each in BERT.candidates() if EIGHTH.admits(BERT, each))
    assert found == within[:3]


def test_fewer_are_found_where_there_are_fewer() -> None:
    assert len(solve(BERT, FLAT, Budget(SizeBudget(0.0625, metadata=False)), count=9)) == 1


def test_a_budget_that_none_keeps_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        solve(BERT, FLAT, Budget(SizeBudget(0.05, metadata=False)))
    assert str(caught.value) == (
        "budget of the search: expected a candidate of at most 0.05 of the float32 size nominal, "
        "found 0.0625 of the float32 size nominal at best; "
        "raise it, or allow smaller or faster schemes"
    )


QUERY = "bert.encoder.layer.1.attention.self.query"


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(loss: float) -> None:
    with pytest.raises(UsageError) as caught:
        solve(BERT, FLAT | {(QUERY, "int4"): loss}, EIGHTH)
    assert str(caught.value) == (
        f"loss of {QUERY} as int4: expected a finite number, found {loss}; "
        "measure it again, or leave the scheme out"
    )


def test_a_loss_that_is_missing_is_refused() -> None:
    losses = {key: loss for key, loss in FLAT.items() if key != (QUERY, "int4")}
    with pytest.raises(UsageError) as caught:
        solve(BERT, losses, EIGHTH)
    assert str(caught.value) == (
        f"loss of {QUERY} as int4: expected a finite number, found none; "
        "measure it again, or leave the scheme out"
    )


@dataclass
class Knapsack:
    """Random costs and limits that a mixture of options keeps better than any single ones."""

    program: Program
    costs: Coefficients
    limits: list[Coefficients]

    @classmethod
    def of(cls, limits: int, effort: Effort) -> "Knapsack":
        space = SearchSpace.of(tiny_model(num_hidden_layers=4), "layer")
        program, rng = Program(space, effort=effort), np.random.default_rng(0)
        columns = [column for each in program.choices for column in each.values()]
        costs, *rest = (
            dict(zip(columns, rng.random(len(columns)), strict=True)) for _ in range(limits + 1)
        )
        return cls(program, costs, rest)

    @property
    def most(self) -> float:
        return 0.4 * len(self.program.choices)

    def solved(self) -> Minimum | None:
        return self.program.minimize(self.costs, [at_most(each, self.most) for each in self.limits])

    def sum(self, minimum: Minimum, coefficients: Coefficients) -> float:
        pairs = zip(self.program.choices, minimum.candidate.schemes, strict=True)
        return sum(coefficients[columns[text]] for columns, text in pairs)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """Of every solve, whether it was proved and whether there is a solution."""
    noted: list[tuple[bool, bool]] = []

    def solve_and_note(*arguments: Any, **options: Any) -> OptimizeResult:
        result = milp(*arguments, **options)
        noted.append((result.status == 0, result.x is not None))
        return result

    monkeypatch.setattr("nxmi_export.search.program.milp", solve_and_note)
    return noted


def test_a_full_tree_ends_with_the_best_found_so_far(ended: list[tuple[bool, bool]]) -> None:
    full = Knapsack.of(2, Effort(nodes=1))
    best = full.solved()
    assert ended == [(False, True)]
    assert best is not None
    assert full.solved() == best
    assert all(full.sum(best, each) <= full.most * (1 + 1e-6) for each in full.limits)
    near = Knapsack.of(2, Effort(gap=0.05)).solved()
    assert near is not None
    assert 0.95 * full.sum(near, full.costs) <= full.sum(best, full.costs)


@pytest.mark.parametrize("effort", [Effort(nodes=1), Effort(gap=0.05), QUICK])
def test_no_other_is_better_by_more_than_the_gap_that_is_told(effort: Effort) -> None:
    problem = Knapsack.of(2, effort)
    found, least = problem.solved(), Knapsack.of(2, EXACT).solved()
    assert found is not None
    assert least is not None
    assert least.gap == 0
    assert 0 < found.gap <= 1
    cost, optimum = (problem.sum(each, problem.costs) for each in (found, least))
    assert cost * (1 - found.gap) <= optimum * (1 + 1e-9)
    assert optimum <= cost


def test_a_full_tree_without_a_solution_is_no_proof_that_there_is_none(
    ended: list[tuple[bool, bool]],
) -> None:
    assert Knapsack.of(8, Effort(nodes=1)).solved() is None
    assert ended == [(False, False), (False, False)]  # the second time it is proved


def test_what_time_has_left_of_a_second_solve_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tree has more nodes than the first one was allowed, which proves nothing."""
    knapsack = Knapsack.of(2, Effort(nodes=1))
    some = np.ones(knapsack.program.add_column())
    full = OptimizeResult(status=4, x=None, mip_node_count=None, message="full")
    late = OptimizeResult(status=1, x=some, mip_node_count=500, message="late")
    results = iter((full, late))
    monkeypatch.setattr(
        "nxmi_export.search.program.milp", lambda *arguments, **options: next(results)
    )
    with pytest.raises(InternalError, match=r"found status 1 of HiGHS \(late\)"):
        knapsack.solved()


def test_running_out_of_time_is_an_error_and_no_answer() -> None:
    with pytest.raises(InternalError) as caught:
        solve(BERT, FLAT, EIGHTH, effort=Effort(seconds=0.0))
    assert re.fullmatch(
        r"solver of the search: expected the optimum within 0 seconds, "
        r"found status 1 of HiGHS \(.*[Tt]ime limit.*\); "
        r"search with fewer schemes or per component",
        str(caught.value),
    )


def test_what_the_rows_let_through_and_the_budget_does_not_is_passed_over() -> None:
    program = Program(BERT)
    cost = program.size(metadata=True)
    smallest = program.minimize(cost)
    assert smallest == Minimum(BERT.uniform(Scheme.parse("2:4+int4")), gap=0.0)
    second = program.minimize(cost, admits=lambda candidate: candidate != smallest.candidate)
    assert second is not None
    assert sorted(second.candidate.schemes) == ["2:4+int4"] * 5 + ["int4"]


def test_solutions_that_all_miss_the_budget_by_rounding_end_in_an_error() -> None:
    program = Program(BERT)
    with pytest.raises(InternalError) as caught:
        program.minimize(program.size(metadata=True), admits=lambda candidate: False)
    assert str(caught.value) == (
        "solver of the search: expected a candidate within the budget, "
        "found 20 in a row that miss it by rounding; raise or lower the budget by a thousandth"
    )


@settings(deadline=None, max_examples=30)
@given(problems(MEASURED), st.integers(0, 3), st.data())
def test_near_keeps_to_few_changes_and_is_exact_there(
    problem: Problem, changes: int, data: st.DataObject
) -> None:
    centre = data.draw(st.sampled_from(list(problem.space.candidates())))
    budget = budget_at(problem, centre, "size and latency")
    found = solve(problem.space, problem.losses, budget, near=Near(centre, changes))
    expected = [
        loss
        for loss, each in problem.brute_force(budget)
        if sum(a != b for a, b in zip(each.schemes, centre.schemes, strict=True)) <= changes
    ]
    assert found[0].loss == pytest.approx(expected[0], abs=1e-7)


@settings(deadline=None, max_examples=30)
@given(problems(MEASURED), LIMITS, st.data())
def test_less_effort_stays_within_its_gap(
    problem: Problem, limits: str, data: st.DataObject
) -> None:
    edge = data.draw(st.sampled_from(list(problem.space.candidates())))
    budget = budget_at(problem, edge, limits)
    found = solve(problem.space, problem.losses, budget, count=3, effort=QUICK)
    every = [loss for loss, _ in problem.brute_force(budget)]
    assert len(found) == min(3, len(every))
    assert len({each.candidate for each in found}) == len(found)
    least = sum(
        min(sum(problem.losses[name, text] for name in group.linears) for text in group.by_text)
        for group in problem.space.groups
    )
    # the gap is of what a candidate loses beyond the least choice of each group
    assert found[0].loss - every[0] <= QUICK.gap * (found[0].loss - least) + 1e-7


def _of_encoder(layers: int) -> tuple[SearchSpace, LatencyModel, Losses]:
    """Both limits' worth of binaries: needs between neighbours, and hardly two equal losses.

    Its linears take what BERT-base's do, which are 24 times as wide.
    """
    model = tiny_model(num_hidden_layers=layers, intermediate_size=128)
    wide = {each: LinearShape(*(24 * size for size in each)) for each in encoder_shapes(model)}
    table = roofline("l4", tuple(wide.values()), rows=512)
    times = {
        Gemm(512, *each, kind): table.seconds(512, *wide[each], kind)
        for each in wide
        for kind in KINDS
    }
    table = replace(table, entries=times)
    space = SearchSpace.of(model, "layer")
    draws = np.random.default_rng(0)
    scale = {"2:4": 0.02, "int8": 0.001, "int4": 0.03, "2:4+int8": 0.022, "2:4+int4": 0.07}
    losses = {
        (linear, text): scale[text] * float(draws.exponential())
        for group in space.groups
        for linear in group.linears
        for text in group.by_text
    }
    return space, LatencyModel.of(model, table, Placement.SPARSE, rows=512), losses


@pytest.mark.parametrize("layers", [6, 12])
def test_an_encoder_under_both_limits_is_solved_in_seconds(layers: int) -> None:
    space, model, losses = _of_encoder(layers)
    size = SizeBudget(0.125, metadata=True)
    latency = LatencyBudget(0.5 * model.dense_seconds, model)
    budget = Budget(size, latency)
    draws = np.random.default_rng(1)
    options = [tuple(group.by_text) for group in space.groups]
    known = {
        Candidate(tuple(texts[draws.integers(len(texts))] for texts in options))
        for _ in range(2000)
    }
    begun = time.process_time()
    [optimum] = solve(space, losses, budget, effort=THOROUGH)
    best = solve(space, losses, budget, count=10, effort=QUICK)
    others = solve(
        space,
        losses,
        budget,
        count=10,
        effort=QUICK,
        excluded=frozenset({*known, best[0].candidate}),
    )
    # The processor's time: a busy machine may make anything take long by the clock.
    assert time.process_time() - begun < 30
    assert optimum.gap == 0
    for alone, other in ((Budget(size), latency), (Budget(latency=latency), size)):
        assert not other.admits(space, solve(space, losses, alone)[0].candidate)
    assert [len(best), len(others)] == [10, 10]
    assert best[0].candidate not in {each.candidate for each in others}
    assert all(budget.admits(space, each.candidate) for each in (*best, *others))
