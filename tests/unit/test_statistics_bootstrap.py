"""The bootstrap and the Dirichlet draw, against scikit-learn, scipy and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from nxmi_export.errors import DataError
from nxmi_export.glue import TASKS, Task, primary, score
from nxmi_export.glue.dataset import LabelArray
from nxmi_export.parity.statistics import Pairs
from nxmi_export.parity.statistics import bootstrap as bootstrap_module
from nxmi_export.parity.statistics.bootstrap import bootstrap
from nxmi_export.parity.statistics.pairs import Cells
from nxmi_export.parity.statistics.sparse_changes import sparse_changes
from nxmi_export.parity.statistics.weighted_scores import weighted_differences, weighted_primary

MRPC, COLA, STSB, SST2 = (TASKS[name] for name in ("mrpc", "cola", "stsb", "sst2"))


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def classified(total: int, *, flips: float, seed: int = 0, task: str = "mrpc") -> Pairs:
    """A reference that is right in 85 %, a candidate that differs in the given share."""
    generator = seeded(seed)
    labels = (generator.random(total) < 0.68).astype(np.int64)
    reference = np.where(generator.random(total) < 0.85, labels, 1 - labels)
    candidate = np.where(generator.random(total) < flips, 1 - reference, reference)
    return Pairs(TASKS[task], labels, reference, candidate)


def rated(total: int, *, noise: float, seed: int = 0) -> Pairs:
    generator = seeded(seed)
    labels = generator.integers(0, 26, total) / 5
    reference = labels + generator.normal(size=total)
    candidate = reference + noise * generator.normal(size=total)
    return Pairs(STSB, labels, reference, candidate)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_a_weight_of_three_is_three_equal_examples(task: Task, seed: int, rows: int) -> None:
    generator = seeded(seed)

    def values() -> LabelArray:
        if task.is_regression:
            return generator.integers(0, 12, rows) / 4
        return generator.integers(0, len(task.labels), rows)

    predictions, labels, weights = values(), values(), generator.integers(0, 4, rows)
    weights[0] += 1
    repeated = np.repeat(np.arange(rows), weights)
    expected = primary(task, score(task, predictions[repeated], labels[repeated]))
    shares = weights[np.newaxis] / weights.sum()
    found = weighted_primary(task, predictions, labels, shares)[0]
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("pairs", [rated(60, noise=0.5), classified(120, flips=0.1, task="cola")])
def test_limits_are_scipys_bca(pairs: Pairs) -> None:
    count, confidence = 9999, 0.95

    def difference(labels: LabelArray, before: LabelArray, after: LabelArray) -> float:
        weights = np.ones((1, len(labels)))
        cells = Cells(labels, before, after, np.ones(len(labels), np.int64))
        return float(weighted_differences(pairs.task, cells, weights)[0])

    theirs = stats.bootstrap(
        (pairs.labels, pairs.reference, pairs.candidate),
        difference,
        n_resamples=4000,
        paired=True,
        vectorized=False,
        confidence_level=2 * confidence - 1,
        method="BCa",
        rng=seeded(5),
    )
    ours = bootstrap(pairs.task, pairs.cells, resamples=count, generator=seeded(1))
    # Two independent draws: their limits differ by simulation error alone.
    apart = 0.12 * theirs.standard_error
    assert ours.limits(confidence) == pytest.approx(tuple(theirs.confidence_interval), abs=apart)
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=0.06)


def test_p_value_is_the_level_at_which_the_limit_touches() -> None:
    pairs = rated(200, noise=0.4)
    result = bootstrap(pairs.task, pairs.cells, resamples=9999, generator=seeded())
    for confidence in (0.8, 0.95, 0.99):
        lower, upper = result.limits(confidence)
        assert result.p_above(lower) == pytest.approx(1 - confidence, abs=1e-3)
        assert result.p_below(upper) == pytest.approx(1 - confidence, abs=1e-3)


def test_the_same_seed_gives_the_same_limits() -> None:
    pairs = classified(300, flips=0.05)
    one, other, third = (
        bootstrap(MRPC, pairs.cells, resamples=999, generator=seeded(seed)) for seed in (3, 3, 4)
    )
    assert one.limits(0.95) == other.limits(0.95)
    assert one.limits(0.95) != third.limits(0.95)


def test_memory_does_not_grow_with_the_dev_set(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def watched(task: object, cells: object, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sizes.append(weights.size)
        return np.asarray(weights[:, 0])

    monkeypatch.setattr(bootstrap_module, "weighted_differences", watched)
    pairs = rated(3000, noise=0.1)
    bootstrap(STSB, pairs.cells, resamples=999, generator=seeded())
    assert max(sizes) <= bootstrap_module.BLOCK
    assert len(classified(40_430, flips=0.01).cells.counts) == 8


def test_resamples_without_a_correlation_are_refused() -> None:
    labels = np.array([0.0, 1.0, 2.0])
    pairs = Pairs(STSB, labels, labels[::-1].copy(), np.array([1.0, 1.0, 3.0]))
    with pytest.raises(DataError) as caught:
        bootstrap(STSB, pairs.cells, resamples=999, generator=seeded())
    assert str(caught.value) == (
        "the bootstrap of stsb: expected predictions and labels that vary in every resample, found "
        f"{caught.value.found}; compare over more examples"
    )
    assert caught.value.found.endswith(" of 999 resamples in which they are constant")


@pytest.mark.parametrize("losses", [0, 1, 4])
def test_dirichlet_limit_of_losses_alone_is_clopper_and_pearsons(losses: int) -> None:
    labels = np.zeros(500, np.int64)
    candidate = labels.copy()
    candidate[:losses] = 1
    cells = Pairs(SST2, labels, labels, candidate).cells
    result = sparse_changes(SST2, cells, draws=20_000, generator=seeded())
    expected = stats.beta.ppf(0.95, losses + 1, 500 - losses)
    assert -result.limits(0.95)[0] == pytest.approx(expected, rel=0.03)
    assert result.p_above(-expected) == pytest.approx(0.05, abs=0.006)


def test_a_bootstrap_of_equal_predictions_is_blind_and_the_dirichlet_draw_is_not() -> None:
    cells = classified(408, flips=0).cells
    blind = bootstrap(MRPC, cells, resamples=999, generator=seeded())
    sees = sparse_changes(MRPC, cells, draws=9999, generator=seeded())
    assert blind.limits(0.95) == (0.0, 0.0)
    assert -0.010 < sees.limits(0.95)[0] < -0.006


@pytest.mark.parametrize(("flips", "total"), [(0.004, 300), (0.05, 300)])
def test_limits_of_f1_cover_the_true_difference(flips: float, total: int) -> None:
    population = classified(200_000, flips=flips, seed=11)
    truth, cells, runs = population.difference, population.cells, 200
    shares = cells.counts / cells.counts.sum()
    draws = seeded(2).multinomial(total, shares, size=runs)
    missed = np.zeros(2)
    for run, counts in enumerate(draws):
        sample = Cells(cells.labels, cells.reference, cells.candidate, counts)
        both = (
            bootstrap(MRPC, sample, resamples=999, generator=seeded(run)),
            sparse_changes(MRPC, sample, draws=999, generator=seeded(run + runs)),
        )
        lows, highs = zip(*(each.limits(0.95) for each in both), strict=True)
        missed += (min(lows) > truth, max(highs) < truth)
    # Three standard errors of a simulated 5 %.
    assert np.all(missed / runs <= 0.05 + 0.046)
