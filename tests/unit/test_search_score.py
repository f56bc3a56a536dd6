from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import DataError, InvalidDataset
from nxmi_export.glue import primary, score, task_named
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.early_stopping import MeanStop, Outcomes
from nxmi_export.search.score import (
    Scorer,
    ScoringOptions,
    dense_logits,
    divergences,
    expected_divergences,
)
from nxmi_export.search.superset import Superset
from nxmi_export.search.variants import variants
from tests.tiny_models import tiny_model, toy_data

SCHEMES = tuple(map(Scheme.parse, ("int8", "2:4+int4")))
GENTLE, ROUGH = SCHEMES
OPTIONS = ScoringOptions(chunk=8, batch_size=3)


def _model(task: str) -> PreTrainedModel:
    return tiny_model(num_labels=task_named(task).num_outputs)


def _superset(model: PreTrainedModel) -> Superset:
    base, data = Recipe(), toy_data(32)
    names = [name for block in layout_of(model) for name in block.linears]
    prepared = variants(model, dict.fromkeys(names, SCHEMES), base, data, "magnitude")
    return Superset(model, base, prepared, data)


def _slice(task: str = "sst2", count: int = 44) -> EncodedDataset:
    return toy_data(count, task=task_named(task))


def _scorer(
    task: str = "sst2", *, options: ScoringOptions = OPTIONS, count: int = 44
) -> tuple[Scorer, Superset, EncodedDataset]:
    superset, data = _superset(_model(task)), _slice(task, count)
    return Scorer(superset, data, dense_logits(superset, data, options), options), superset, data


def _all(superset: Superset, scheme: Scheme) -> dict[str, Scheme]:
    return dict.fromkeys(superset.variants.linears, scheme)


def _one_by_one(model: PreTrainedModel, data: EncodedDataset) -> NDArray[np.float64]:
    """Logits without batches, chunks or padding, in the order of the slice."""
    rows = []
    for index in range(len(data)):
        feeds = {name: torch.from_numpy(x) for name, x in data.padded([index], None).items()}
        with torch.inference_mode():
            rows.append(model(**feeds).logits[0].double().numpy())
    return np.array(rows)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.exp(logits)
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


@pytest.mark.parametrize("name", ["sst2", "mrpc", "mnli", "cola"])
def test_a_class_score_is_the_mean_divergence_and_the_metric_of_the_slice(name: str) -> None:
    scorer, superset, data = _scorer(name)
    found = scorer.score(_all(superset, ROUGH))
    logits = _one_by_one(superset.model, data)
    superset.use({})
    p, q = _softmax(_one_by_one(superset.model, data)), _softmax(logits)
    task = data.dataset.task
    scores = score(task, logits.argmax(axis=1), data.dataset.labels)
    assert found.divergence == pytest.approx(float(np.sum(p * np.log(p / q), axis=1).mean()))
    assert found.metric == pytest.approx(primary(task, scores))
    assert (found.examples, found.stopped) == (44, False)


def test_a_regression_score_is_the_mean_squared_difference_and_the_correlation() -> None:
    scorer, superset, data = _scorer("stsb")
    found = scorer.score(_all(superset, ROUGH))
    outputs = _one_by_one(superset.model, data)[:, 0]
    superset.use({})
    dense = _one_by_one(superset.model, data)[:, 0]
    scores = score(data.dataset.task, outputs, data.dataset.labels)
    assert found.divergence == pytest.approx(float(np.mean((outputs - dense) ** 2)))
    assert found.metric == pytest.approx(primary(data.dataset.task, scores))


def test_the_dense_model_diverges_by_nothing() -> None:
    scorer, _, _ = _scorer()
    assert scorer.score({}).divergence == 0.0


def test_gentle_schemes_diverge_less_than_rough_ones() -> None:
    scorer, superset, _ = _scorer()
    gentle, rough = (scorer.score(_all(superset, each)).divergence for each in SCHEMES)
    assert 0 < gentle < rough / 10


def test_a_score_does_not_depend_on_the_candidates_before() -> None:
    scorer, superset, _ = _scorer()
    first = scorer.score(_all(superset, ROUGH))
    scorer.score(_all(superset, GENTLE))
    assert scorer.score(_all(superset, ROUGH)) == first
    assert _scorer()[0].score(_all(superset, ROUGH)) == first


class _Recording:
    """A stop that looks at everything and says so after `limit` chunks."""

    def __init__(self, limit: int) -> None:
        self.limit, self.seen = limit, list[Outcomes]()

    def add(self, outcomes: Outcomes) -> bool:
        self.seen.append(outcomes)
        return len(self.seen) == self.limit


def test_a_stopped_candidate_has_an_estimate_from_what_was_scored_and_no_metric() -> None:
    scorer, superset, _ = _scorer()
    stop = _Recording(2)
    found = scorer.score(_all(superset, ROUGH), stop)
    seen = np.concatenate([each.divergences for each in stop.seen])
    assert (found.examples, found.metric, found.stopped) == (16, None, True)
    # each value stands for all that were left, behind those before it, which are known
    totals = [seen[:place].sum() + seen[place] * (44 - place) for place in range(16)]
    assert found.divergence == pytest.approx(float(np.mean(totals)) / 44)


def test_nobody_is_given_up_on_the_last_chunk_whose_score_is_known() -> None:
    scorer, superset, _ = _scorer()
    found = scorer.score(_all(superset, ROUGH), _Recording(6))
    assert (found.examples, found.stopped) == (44, False)
    assert found.metric is not None


def test_a_stop_sees_every_example_once_in_the_random_order_of_all_candidates() -> None:
    """Sorted by length they would be no random sample, which is what a stop relies on."""
    scorer, superset, data = _scorer()
    stops = [_Recording(99), _Recording(99)]
    for scheme, stop in zip(SCHEMES, stops, strict=True):
        scorer.score(_all(superset, scheme), stop)
    orders = [np.concatenate([each.examples for each in stop.seen]) for stop in stops]
    assert np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[0], scorer.positions)
    assert np.array_equal(np.sort(orders[0]), np.arange(44))
    for each in stops[0].seen[:-1]:  # the last is short enough to be sorted by chance
        assert not np.array_equal(each.examples, np.sort(each.examples))
        assert not np.all(np.diff(data.lengths[each.examples]) >= 0)
    reseeded, _, _ = _scorer(options=replace(OPTIONS, seed=1))
    assert not np.array_equal(reseeded.positions, scorer.positions)


def test_outcomes_belong_to_the_examples_they_are_reported_for() -> None:
    scorer, superset, data = _scorer()
    stop = _Recording(99)
    scorer.score(_all(superset, ROUGH), stop)
    logits = _one_by_one(superset.model, data)
    for each in stop.seen:
        assert np.array_equal(each.predictions, logits[each.examples].argmax(axis=1))


def test_an_early_stop_changes_no_score_that_is_complete() -> None:
    scorer, superset, data = _scorer()
    whole = scorer.score(_all(superset, GENTLE))
    bar = whole.divergence * 1.01
    assert scorer.score(_all(superset, GENTLE), MeanStop(len(data), bar, 0.01)) == whole
    assert scorer.score(_all(superset, ROUGH), MeanStop(len(data), bar, 0.01)).stopped


@pytest.mark.parametrize("count", [1, 8, 9, 44, 1000])
def test_logits_of_the_first_examples_are_those_of_all(count: int) -> None:
    scorer, superset, data = _scorer()
    everything = scorer.logits(_all(superset, ROUGH))
    assert np.array_equal(scorer.logits(_all(superset, ROUGH), count), everything[:count])
    expected = _one_by_one(superset.model, data)[scorer.positions]
    assert everything == pytest.approx(expected, abs=1e-5)


def test_outputs_are_brought_into_the_order_of_the_task() -> None:
    straight, superset, data = _scorer()
    labels = 1 - data.dataset.labels
    turned_data = replace(data, dataset=replace(data.dataset, labels=labels))
    options = replace(OPTIONS, order=(1, 0))
    reference = dense_logits(superset, data, OPTIONS)
    turned_reference = dense_logits(superset, turned_data, options)
    assert np.array_equal(turned_reference, reference[:, ::-1])
    turned = Scorer(superset, turned_data, turned_reference, options)
    expected = straight.score(_all(superset, ROUGH))
    found = turned.score(_all(superset, ROUGH))
    assert found.metric == expected.metric
    assert found.divergence == pytest.approx(expected.divergence)


def test_bfloat16_is_near_and_compares_with_the_dense_model_in_float32() -> None:
    scorer, superset, data = _scorer()
    options = replace(OPTIONS, precision="bf16")
    reference = dense_logits(superset, data, options)
    assert np.array_equal(reference, dense_logits(superset, data, OPTIONS))
    exact = scorer.score(_all(superset, ROUGH)).divergence
    found = Scorer(superset, data, reference, options).score(_all(superset, ROUGH)).divergence
    assert found != exact
    assert found == pytest.approx(exact, rel=0.1)


def test_logits_that_are_not_finite_are_refused() -> None:
    scorer, superset, _ = _scorer()
    with torch.no_grad():
        superset.model.get_parameter("classifier.bias").fill_(torch.nan)
    with pytest.raises(DataError) as caught:
        scorer.score({})
    with pytest.raises(DataError, match=r"row 0: expected finite numbers, found nan"):
        scorer.distances({})  # as of a pilot, whose NaN would leave the examples in no order
    assert str(caught.value) == (
        "logits of sst2, row 0: expected finite numbers, found nan; "
        "a model that gives these has no score; find where they arise"
    )


def test_an_empty_slice_is_refused() -> None:
    superset, nothing = _superset(_model("sst2")), _slice().select(np.zeros(0, np.int64))
    with pytest.raises(InvalidDataset) as caught:
        Scorer(superset, nothing, np.zeros((0, 2)), OPTIONS)
    assert str(caught.value) == (
        "sst2 train: expected examples to score on, found none; choose a larger slice"
    )


def test_divergences_are_never_negative() -> None:
    logits = np.random.default_rng(0).normal(size=(500, 3)) * 20
    nearly = logits + 1e-9
    assert divergences(task_named("mnli"), logits, nearly).min() >= 0


def test_a_bad_candidate_costs_few_examples_and_a_good_one_all_of_them() -> None:
    # with the options that a search has by default
    scorer, superset, data = _scorer(options=ScoringOptions(), count=256)
    good, bad = _all(superset, GENTLE), _all(superset, ROUGH)
    bar = scorer.score(good).divergence
    assert scorer.score(bad).divergence > 3 * bar
    kept, dropped = (
        scorer.score(each, MeanStop(len(data), bar, error=0.01)) for each in (good, bad)
    )
    assert (kept.examples, kept.stopped) == (256, False)
    assert dropped.stopped
    assert dropped.examples <= 64
    assert ScoringOptions().chunk <= 16  # what the first look costs at least


def test_looks_are_further_apart_the_more_has_been_seen() -> None:
    scorer, superset, _ = _scorer(options=replace(OPTIONS, chunk=4), count=200)
    stop = _Recording(99)
    scorer.score(_all(superset, ROUGH), stop)
    sizes = [len(each.examples) for each in stop.seen]
    assert sizes == [4, 4, 4, 4, 4, 5, 6, 7, 9, 11, 14, 18, 22, 28, 35, 25]


def test_a_weight_says_how_soon_an_example_tends_to_come() -> None:
    _, superset, data = _scorer()
    reference, weights = dense_logits(superset, data, OPTIONS), np.ones(len(data))
    weights[3] = 100.0
    places = []
    for seed in range(30):
        scorer = Scorer(superset, data, reference, replace(OPTIONS, seed=seed), weights)
        places.append(int(np.flatnonzero(scorer.positions == 3)[0]))
    assert np.mean(places) < 2  # 21.5 among equals


def test_the_chances_are_those_of_the_next_one_among_the_rest() -> None:
    _, superset, data = _scorer()
    weights = np.arange(1.0, len(data) + 1)
    scorer = Scorer(superset, data, dense_logits(superset, data, OPTIONS), OPTIONS, weights)
    stop = _Recording(99)
    scorer.score(_all(superset, GENTLE), stop)
    left = weights.sum()
    for each in stop.seen:
        for example, chance in zip(each.examples, each.chances, strict=True):
            assert chance == pytest.approx(weights[example] / left)
            left -= weights[example]


def test_an_order_changes_no_complete_score_and_no_estimate_on_average() -> None:
    plain, superset, data = _scorer()
    reference = dense_logits(superset, data, OPTIONS)
    weights = expected_divergences([plain.distances(_all(superset, ROUGH))])
    whole = plain.score(_all(superset, ROUGH))
    estimates = []
    for seed in range(40):
        options = replace(OPTIONS, seed=seed)
        scorer = Scorer(superset, data, reference, options, weights)
        if seed < 3:
            found = scorer.score(_all(superset, ROUGH))
            assert found.divergence == pytest.approx(whole.divergence, rel=1e-5)
        estimates.append(scorer.score(_all(superset, ROUGH), _Recording(1)).divergence)
    # each from 8 of 44 examples
    assert np.mean(estimates) == pytest.approx(whole.divergence, rel=0.05)


def test_examples_are_expected_to_diverge_as_they_did_for_the_pilots() -> None:
    scorer, superset, data = _scorer()
    reference, task = dense_logits(superset, data, OPTIONS), data.dataset.task
    pilots = [scorer.distances(_all(superset, each)) for each in SCHEMES]
    weights = expected_divergences(pilots[1:])
    superset.use(_all(superset, ROUGH))
    distances = divergences(task, reference, _one_by_one(superset.model, data))
    assert weights == pytest.approx(0.1 + 0.9 * distances / distances.mean(), rel=1e-3)
    both = expected_divergences(pilots)
    assert both.mean() == pytest.approx(1.0)  # however far each of them goes
    assert not np.allclose(both, weights)
    nowhere = scorer.distances({})  # of the dense model
    assert np.array_equal(expected_divergences([nowhere]), np.ones(len(data)))
