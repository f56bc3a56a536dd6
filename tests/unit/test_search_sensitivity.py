from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import PreTrainedModel

from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.encoding import EncodedDataset
from nxmi_export.glue import task_named
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.conditional import Additive, Marginals, changes_of
from nxmi_export.search.fisher import curvature
from nxmi_export.search.score import Scorer, ScoringOptions, dense_logits, divergences
from nxmi_export.search.sensitivity import Probe, Prober, Sensitivities, Sensitivity, probes
from nxmi_export.search.space import SearchSpace, schemes_of
from nxmi_export.search.superset import Superset, naive_model
from nxmi_export.search.variants import Variant, Variants, variants
from tests.tiny_models import logits_of, tiny_model, toy_data
from tests.unit.made_up_launch import launched

DENSE, HALF, INT8 = map(Scheme.parse, ("dense", "2:4", "int8"))
OPTIONS = ScoringOptions(chunk=8, batch_size=3)
ALONE: Any = SimpleNamespace(process_index=0, num_processes=1, is_main_process=True)


def _model(task: str = "sst2", model_type: str = "bert") -> PreTrainedModel:
    return tiny_model(model_type, num_labels=task_named(task).num_outputs)


def _linears(model: PreTrainedModel) -> list[str]:
    return [name for block in layout_of(model) for name in block.linears]


def _nudged(model: PreTrainedModel, size: float = 1e-3) -> Variants:
    """Variants that are so near to the dense weights that the second order is all there is."""
    generator = torch.Generator().manual_seed(0)
    dense = {name: model.get_parameter(f"{name}.weight").detach() for name in _linears(model)}
    prepared = {
        (name, scheme): Variant(
            weight + size * torch.randn(weight.shape, generator=generator), None, 0.0
        )
        for name, weight in dense.items()
        for scheme in (HALF, INT8)
    }
    return Variants(dense, prepared)


def _logits(model: PreTrainedModel, data: EncodedDataset) -> Any:
    feeds = data.padded(range(len(data)), None)
    return logits_of(model, {name: torch.from_numpy(x) for name, x in feeds.items()}).double()


@pytest.mark.parametrize(
    ("model_type", "task"),
    [
        *(("bert", task) for task in ("sst2", "stsb", "mnli")),
        *((each, "sst2") for each in ("albert", "modernbert", "mobilebert", "distilbert")),
    ],
)
def test_small_changes_cost_what_the_curvature_says(model_type: str, task: str) -> None:
    model = _model(task, model_type)
    near = _nudged(model, 1e-3 if model_type != "mobilebert" else 3e-5)
    data = toy_data(12, task=task_named(task), model_type=model_type)
    found = curvature(model, near, data, ALONE)
    linears = _linears(model)
    changes = [(name, "2:4" if number % 2 else "int8") for number, name in enumerate(linears)]
    model.double()
    before = _logits(model, data).numpy()
    for name, text in changes:
        weight = near.weight(name, Scheme.parse(text)).double()
        model.get_submodule(name).weight.data = weight
    after = _logits(model, data).numpy()
    true = divergences(task_named(task), before, after).mean()
    assert found.together(changes) == pytest.approx(true, rel=0.05)
    # and interactions are a large part of it
    alone = sum(found.together([change]) for change in changes)
    assert found.interaction(changes) == pytest.approx(found.together(changes) - alone)
    assert abs(found.interaction(changes)) > 0.01 * alone


def test_the_effect_of_a_group_is_that_of_its_linears_together() -> None:
    model = _model()
    found = curvature(model, _nudged(model), toy_data(12), ALONE)
    space = SearchSpace.of(model, "component", (DENSE, HALF, INT8))
    grouped = found.grouped(space)
    for group in space.groups:
        together = found.together([(name, "int8") for name in group.linears])
        assert grouped.together([(group.name, "int8")]) == pytest.approx(together)
        assert grouped.together([(group.name, "dense")]) == 0.0


def test_every_option_but_dense_is_probed_once() -> None:
    space = SearchSpace.of(_model(), "component", (DENSE, HALF, INT8))
    names = ("query", "key", "value", "attention_output", "ffn_up", "ffn_down")
    assert probes(space) == tuple(Probe(name, text) for name in names for text in ("2:4", "int8"))


@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_a_probe_is_the_dense_model_with_one_group_changed(task: str) -> None:
    model, data, base = _model(task), toy_data(20, task=task_named(task)), Recipe()
    space = SearchSpace.of(model, "component", (HALF, INT8))
    prepared = variants(
        model, dict.fromkeys(_linears(model), (HALF, INT8)), base, toy_data(16), "magnitude"
    )
    superset = Superset(model, base, prepared, toy_data(16))
    reference = dense_logits(superset, data, OPTIONS)
    scorer = Scorer(superset, data, reference, OPTIONS)
    prober = Prober(scorer, space, data.dataset, reference, 10)
    found = prober.measure(Probe("ffn_up", "int8"))

    group = next(each for each in space.groups if each.name == "ffn_up")
    recipe = base.model_copy(
        update={"default": DENSE, "overrides": dict.fromkeys(group.linears, INT8)}
    )
    changed = naive_model(model, recipe, prepared, superset.activation_scales)
    first = data.select(scorer.positions[:10])
    before, after = _logits(model, first).numpy(), _logits(changed, first).numpy()
    task_ = task_named(task)
    assert found.divergence == pytest.approx(
        divergences(task_, before, after).mean(), rel=1e-3, abs=1e-9
    )
    labels = first.dataset.labels
    if task_.is_regression:
        rise = ((after[:, 0] - labels) ** 2 - (before[:, 0] - labels) ** 2).mean()
    else:
        losses = [
            torch.nn.functional.cross_entropy(torch.from_numpy(each), torch.tensor(labels))
            for each in (after, before)
        ]
        rise = float(losses[0] - losses[1])
    assert found.loss == pytest.approx(rise, rel=1e-3, abs=1e-7)


def test_changes_of_uniform_candidates_order_others_better_than_changes_of_the_dense_model() -> (
    None
):
    model, data, base = _model(), toy_data(40), Recipe()
    schemes = tuple(map(Scheme.parse, ("2:4", "int8", "int4", "2:4+int8")))
    space = SearchSpace.of(model, "component", schemes)
    options = dict.fromkeys(_linears(model), schemes)
    prepared = variants(model, options, base, toy_data(16), "magnitude")
    superset = Superset(model, base, prepared, toy_data(16))
    reference = dense_logits(superset, data, OPTIONS)
    scorer = Scorer(superset, data, reference, OPTIONS)
    prober = Prober(scorer, space, data.dataset, reference, len(data))
    around = [
        Marginals(space, centre, {x: prober.measure(x, centre) for x in changes_of(space, centre)})
        for centre in space.uniforms()
    ]
    alone = {each: prober.measure(each).divergence for each in probes(space)}
    rng = np.random.default_rng(0)
    names = [group.name for group in space.groups]
    drawn = [space.random(rng, lambda each: True) for _ in range(60)]
    truth = [scorer.score(schemes_of(space, each)).divergence for each in drawn]
    sums = [sum(alone[each] for each in map(Probe, names, one.schemes)) for one in drawn]
    by_sum = spearmanr(sums, truth).statistic
    mean = Additive.mean([each.additive for each in around])
    by_changes = spearmanr([mean.of(space, each) for each in drawn], truth).statistic
    assert by_changes > 0.8 > by_sum


def test_the_dense_model_alone_has_no_curvature() -> None:
    model, data = _model(), toy_data(8)
    nothing = variants(model, dict.fromkeys(_linears(model), (DENSE,)), Recipe(), data, "magnitude")
    found = curvature(model, nothing, data, ALONE)
    assert found.together([(name, "dense") for name in _linears(model)]) == 0.0


def _made_up() -> Sensitivities:
    model = _model()
    space = SearchSpace.of(model, "component", (DENSE, HALF, INT8))
    measured = {
        Probe(group.name, text): Sensitivity(number + (0.5 if text == "2:4" else 0.25), 0.0)
        for number, group in enumerate(space.groups)
        for text in ("2:4", "int8")
    }
    return Sensitivities(
        space, measured, curvature(model, _nudged(model), toy_data(12), ALONE).grouped(space)
    )


def test_the_prediction_is_the_sum_plus_the_interactions() -> None:
    found = _made_up()
    candidate = found.space.uniform(INT8)
    assert found.additive(candidate) == sum(range(6)) + 6 * 0.25
    changes = [(group.name, "int8") for group in found.space.groups]
    expected = found.additive(candidate) + found.curvature.interaction(changes)
    assert found.with_interactions(candidate) == pytest.approx(expected)
    assert found.with_interactions(candidate) != found.additive(candidate)


def test_a_dense_group_costs_nothing() -> None:
    found = _made_up()
    assert found.additive(found.space.uniform(DENSE)) == 0.0
    assert found.with_interactions(found.space.uniform(DENSE)) == 0.0


def test_the_linears_of_a_group_share_its_divergence() -> None:
    found = _made_up()
    candidate = found.space.uniform(HALF)
    total = sum(
        found.losses[name, str(scheme)]
        for name, scheme in schemes_of(found.space, candidate).items()
    )
    assert total == pytest.approx(found.additive(candidate))
    assert len(found.losses) == 12 * 3


def test_processes_share_out_the_examples_and_find_the_same_curvature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models, data, ran = [_model() for _ in range(3)], toy_data(36), list[int]()
    nudged = _nudged(models[0])
    for rank, model in enumerate(models):
        model.register_forward_pre_hook(lambda *_, rank=rank: ran.append(rank))

    def run(accelerator: Any) -> Any:
        return curvature(models[accelerator.process_index], nudged, data, accelerator).effects

    [expected] = launched(monkeypatch, 1, run)
    assert ran == [0] * 5
    ran.clear()
    for effects in launched(monkeypatch, 3, run):
        assert effects.keys() == expected.keys()
        assert all(np.array_equal(effects[key], expected[key]) for key in expected)
    assert sorted(ran) == [0, 0, 1, 1, 2]
