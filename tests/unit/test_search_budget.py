"""What candidates cost, which of them keep a budget, and what is said when none does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxmi_export.errors import UsageError
from nxmi_export.latency.table import KINDS, Gemm, LatencyTable
from nxmi_export.recipe import Placement, Scheme
from nxmi_export.search.budget import (
    Budget,
    LatencyBudget,
    SizeBudget,
    check_feasible,
    feasible,
)
from nxmi_export.search.latency_model import LatencyModel
from nxmi_export.search.size import size_of
from nxmi_export.search.space import Candidate, SearchSpace
from tests.tiny_models import tiny_model

# The proportions of BERT-base, 3072 to 768, in which the published search counted.
BERT = tiny_model(intermediate_size=128)
SPACE = SearchSpace.of(BERT, "component")
MILLISECONDS = dict(zip(KINDS, (4.0, 2.0, 2.0, 1.0), strict=True))  # of any linear


def latency_model() -> LatencyModel:
    entries = {
        Gemm(8, inputs, outputs, kind): MILLISECONDS[kind] / 1e3
        for inputs, outputs in ((32, 32), (32, 128), (128, 32))
        for kind in KINDS
    }
    table = LatencyTable(entries, source="analytical", device="a100", rest={"attention": 0.01})
    return LatencyModel.of(BERT, table, Placement.SPARSE, rows=8)


LATENCY = latency_model()  # 34 to 58 ms: 12 linears of 1, 2 or 4 ms, and 10 ms


def uniform(text: str) -> Candidate:
    return SPACE.uniform(Scheme.parse(text))


def size(target: float, *, metadata: bool = True) -> Budget:
    return Budget(SizeBudget(target, metadata))


def refusal(budget: Budget, space: SearchSpace = SPACE) -> str:
    with pytest.raises(UsageError) as caught:
        check_feasible(space, budget)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "nominal", "with_metadata"),
    [
        ("2:4", 8, 9),
        ("int8", 8, 8),
        ("int4", 4, 4),
        ("2:4+int8", 4, 5),
        ("2:4+int4", 2, 3),
        ("dense", 32, 32),
        ("1:3+int8", 8 / 3, 10 / 3),  # two bits tell three places apart
        ("8:32", 4, 5.25),
    ],
)
def test_the_bits_of_a_scheme(text: str, nominal: float, with_metadata: float) -> None:
    scheme = Scheme.parse(text)
    assert scheme.nominal_bits == pytest.approx(nominal)
    assert scheme.bits_with_metadata == pytest.approx(with_metadata)


def test_a_candidate_is_the_mean_of_its_schemes_by_weights() -> None:
    # 2 of the 12 parts of a block are attention, 8 are the FFN
    candidate = Candidate(("2:4", "int8", "int8", "int8", "int4", "2:4+int4"))
    assert size_of(SPACE, candidate, metadata=False) == (4 * 8 + 4 * 4 + 4 * 2) / 12 / 32
    assert size_of(SPACE, candidate, metadata=True) == (9 + 3 * 8 + 4 * 4 + 4 * 3) / 12 / 32


def test_905_of_15625_candidates_keep_an_eighth_with_metadata() -> None:
    found = feasible(SPACE, size(0.125))
    assert len(found) == len(set(found)) == 905
    assert all(size_of(SPACE, candidate, metadata=True) <= 0.125 for candidate in found)


def test_a_candidate_exactly_at_the_target_keeps_it() -> None:
    assert size(0.125, metadata=False).admits(SPACE, uniform("2:4+int8"))
    assert size(0.125).admits(SPACE, uniform("int4"))
    assert not size(0.125).admits(SPACE, uniform("2:4+int8"))
    assert not size(0.1249).admits(SPACE, uniform("int4"))


def test_sums_that_round_up_do_not_miss_their_own_target() -> None:
    space = SearchSpace.of(
        tiny_model(hidden_size=24, intermediate_size=39),
        "component",
        tuple(Scheme.parse(text) for text in ("1:3+int8", "1:3", "2:3+int4")),
    )
    for candidate in space.candidates():
        assert size(size_of(space, candidate, metadata=True)).admits(space, candidate)


def test_both_limits_count() -> None:
    model = LatencyBudget(0.033, LATENCY)
    both = Budget(SizeBudget(0.125, metadata=True), model)
    assert [both.admits(SPACE, uniform(text)) for text in ("int4", "2:4+int8", "2:4+int4")] == [
        False,  # small and slow
        False,  # fast and large
        True,
    ]
    expected = [each for each in feasible(SPACE, size(0.125)) if model.admits(SPACE, each)]
    assert feasible(SPACE, both) == expected


def test_budgets_in_words() -> None:
    latency = LatencyBudget(0.0405, LATENCY)
    assert size(0.125).describe() == "at most 0.125 of the float32 size with metadata"
    assert Budget(latency=latency).describe() == "at most 40.5 ms on a100 (analytical)"
    assert Budget(SizeBudget(0.2, metadata=False), latency).describe() == (
        "at most 0.2 of the float32 size nominal and 40.5 ms on a100 (analytical)"
    )


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        Budget()
    assert str(caught.value) == (
        "budget of the search: expected a target size or a latency, found neither; "
        "give one of them, or both"
    )


@pytest.mark.parametrize("target", [0.0, -0.125, float("nan"), float("inf")])
def test_a_size_that_is_no_share_is_refused(target: float) -> None:
    with pytest.raises(UsageError) as caught:
        SizeBudget(target, metadata=True)
    assert str(caught.value) == (
        "size budget: expected a share of the float32 size such as 0.125, "
        f"found {target:g}; give a positive number"
    )


@pytest.mark.parametrize(
    ("target", "remedy"),
    [(12.5, "for 12.5 % of it give 0.125"), (125.0, "give one such as 0.125")],
)
def test_a_size_that_limits_nothing_is_refused(target: float, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        SizeBudget(target, metadata=True)
    assert str(caught.value) == (
        f"size budget: expected a share of the float32 size, at most 1, found {target:g}; {remedy}"
    )


def test_the_whole_size_is_a_share() -> None:
    assert size(1.0).admits(SPACE, uniform("2:4"))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_latency_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError) as caught:
        LatencyBudget(seconds, LATENCY)
    assert str(caught.value) == (
        "latency budget: expected a positive number of seconds, "
        f"found {seconds:g}; give a positive number"
    )


def test_a_target_below_the_smallest_size_names_that_size() -> None:
    message = (
        "budget of the search: expected a candidate of at most 0.09 of the float32 size with "
        "metadata, found 0.0938 of the float32 size with metadata at best; "
        "raise it, or allow smaller or faster schemes"
    )
    assert refusal(size(0.09)) == message
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        feasible(SPACE, size(0.09))
    check_feasible(SPACE, size(0.0938))


def test_a_latency_below_the_least_names_that_latency() -> None:
    assert refusal(Budget(latency=LatencyBudget(0.021, LATENCY))) == (
        "budget of the search: expected a candidate of at most 21 ms on a100 (analytical), "
        "found 22 ms (0.3794x) at best; raise it, or allow smaller or faster schemes"
    )
    check_feasible(SPACE, Budget(latency=LatencyBudget(0.022, LATENCY)))


def test_a_latency_below_what_no_scheme_changes_names_the_least_too() -> None:
    assert "found 22 ms (0.3794x) at best" in refusal(Budget(latency=LatencyBudget(0.002, LATENCY)))


# int4 is the small scheme here and 2:4+int8 the fast one
NO_SMALL_AND_FAST = SearchSpace.of(
    BERT, "component", (Scheme.parse("int4"), Scheme.parse("2:4+int8"))
)


def test_limits_that_exclude_each_other_name_the_nearest_of_both() -> None:
    budget = Budget(SizeBudget(0.13, metadata=True), LatencyBudget(0.024, LATENCY))
    assert refusal(budget, NO_SMALL_AND_FAST) == (
        "budget of the search: expected a candidate of at most 0.13 of the float32 size with "
        "metadata and 24 ms on a100 (analytical), found 32 ms (0.5518x) at best at this size, and "
        "0.1459 of the float32 size with metadata at best at this latency; "
        "raise one of the two, or allow smaller or faster schemes"
    )


@given(st.floats(0.125, 0.157), st.floats(0.022, 0.034))
def test_limits_are_feasible_exactly_if_a_candidate_keeps_both(share: float, time: float) -> None:
    small, fast = SizeBudget(share, metadata=True), LatencyBudget(time, LATENCY)
    space, budget = NO_SMALL_AND_FAST, Budget(small, fast)
    candidates = list(space.candidates())
    if any(budget.admits(space, each) for each in candidates):
        check_feasible(space, budget)
        return
    message = refusal(budget, space)
    [least] = re.findall(r"found ([\d.]+) ms \([\d.]+x\) at best at this size", message)
    [smallest] = re.findall(r"and ([\d.]+) of the float32 size with metadata at best", message)
    seconds = min(fast.of(space, each) for each in candidates if small.admits(space, each))
    assert float(least) == pytest.approx(1e3 * seconds)
    nearest = min(small.of(space, each) for each in candidates if fast.admits(space, each))
    assert nearest <= float(smallest) < nearest + 1e-4


def test_a_space_too_large_to_list_is_left_to_the_solver() -> None:
    space = SearchSpace.of(BERT, "layer")
    with pytest.raises(UsageError) as caught:
        feasible(space, size(0.125))
    assert str(caught.value) == (
        "search space per layer: expected at most 2000000 candidates to look at one by one, "
        "found 2.44e+08; give fewer schemes, or search per layer, where the solver chooses"
    )
