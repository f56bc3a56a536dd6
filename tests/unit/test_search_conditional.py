"""Single changes around a candidate, made up: each costs what a table says."""

import pytest

from nxmi_export.search.budget import Budget, SizeBudget
from nxmi_export.search.conditional import RADII, Marginals, changes_of, improvements
from nxmi_export.search.sensitivity import Probe, Sensitivity
from nxmi_export.search.solve import solve
from nxmi_export.search.space import Candidate, SearchSpace
from tests.unit.made_up_sensitivities import made_up

BUDGET = Budget(size=SizeBudget(0.125, metadata=True))
SENSITIVITIES = made_up(seed=3)
SPACE: SearchSpace = SENSITIVITIES.space
CENTRE = solve(SPACE, SENSITIVITIES.losses, BUDGET)[0].candidate
AT_CENTRE = 10.0


def _marginals() -> Marginals:
    """Every change costs what it would alone, less what the option before it would."""
    first, *changes = changes_of(SPACE, CENTRE)
    present = dict(zip((group.name for group in SPACE.groups), CENTRE.schemes, strict=True))
    measured = {first: Sensitivity(AT_CENTRE, 0.0)}
    for name, text in changes:
        gain = SENSITIVITIES.of(name, text) - SENSITIVITIES.of(name, present[name])
        measured[Probe(name, text)] = Sensitivity(AT_CENTRE - gain, 0.0)  # what helped now hurts
    return Marginals(SPACE, CENTRE, measured)


def _changes(candidate: Candidate) -> int:
    return sum(a != b for a, b in zip(candidate.schemes, CENTRE.schemes, strict=True))


def test_every_change_stands_once_and_the_candidate_itself_comes_first() -> None:
    first, *changes = changes_of(SPACE, CENTRE)
    assert first == (SPACE.groups[0].name, CENTRE.schemes[0])
    assert len(set(changes)) == len(changes) == sum(len(g.options) - 1 for g in SPACE.groups)
    assert first not in changes


def test_the_prediction_is_the_centre_plus_what_each_change_adds() -> None:
    marginals = _marginals()
    assert marginals.predicted(CENTRE) == AT_CENTRE
    probes = changes_of(SPACE, CENTRE)[1:]
    last = next(each for each in reversed(probes) if each.group == SPACE.groups[-1].name)
    texts = [*CENTRE.schemes]
    texts[0], texts[-1] = probes[0].scheme, last.scheme
    added = sum(marginals.measured[each].divergence - AT_CENTRE for each in (probes[0], last))
    expected = AT_CENTRE + added
    assert marginals.predicted(Candidate(tuple(texts))) == pytest.approx(expected)


def test_improvements_are_new_near_within_the_budget_and_ordered() -> None:
    marginals = _marginals()
    known = set(improvements(marginals, BUDGET, 3))
    heard: list[int] = []
    found = improvements(marginals, BUDGET, 9, known=known, on_found=heard.append)
    assert len(set(found)) == len(found) == 9
    assert not {*known, CENTRE} & set(found)
    assert all(BUDGET.admits(SPACE, each) for each in found)
    assert sum(_changes(each) <= RADII[0] for each in found) >= 3
    assert max(map(_changes, found)) <= RADII[-1]
    predicted = [marginals.predicted(each) for each in found]
    assert predicted == sorted(predicted)
    assert heard == [3, 6, 9]


def test_where_changes_help_the_best_improvement_is_predicted_below_the_centre() -> None:
    # the centre minimizes the sum, so with all signs turned nearly every change that fits helps
    best = improvements(_marginals(), BUDGET, 3)[0]
    assert _marginals().predicted(best) < AT_CENTRE
    assert _changes(best) > 1


def test_one_configuration_is_asked_of_the_widest_radius() -> None:
    assert len(improvements(_marginals(), BUDGET, 1)) == 1
