from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from nxmi_export.compression import (
    Schedule,
    Step,
    calibrate,
    compressed_linears,
    insert_quantizers,
    train,
)
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.compression.restore import check_patterns, check_scales
from nxmi_export.errors import InvalidScale, UsageError
from nxmi_export.glue import task_named
from nxmi_export.recipe import Placement, Recipe, Scheme
from tests.tiny_models import compressed_model, logits_of, tiny_model, toy_batch, toy_data

LONG = Schedule(epochs=20, batch_size=16, learning_rate=3e-3)
SHORT = Schedule(epochs=1, batch_size=16, learning_rate=3e-3)


def _losses(model: PreTrainedModel, schedule: Schedule) -> list[float]:
    losses: list[float] = []
    train(model, toy_data(96), schedule, on_step=lambda step: losses.append(step.loss))
    return losses


@pytest.mark.parametrize(
    "make", [tiny_model, compressed_model], ids=["fine-tuning", "2:4 and INT8"]
)
def test_training_learns_a_learnable_task(make: Callable[[], PreTrainedModel]) -> None:
    losses = _losses(make(), LONG)
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])


def test_every_step_is_announced() -> None:
    steps: list[Step] = []
    train(tiny_model(), toy_data(40), SHORT, on_step=steps.append)
    assert [(step.number, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert all(np.isfinite(step.loss) for step in steps)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_pruned_weights_are_zero_after_every_step(weight_decay: float) -> None:
    model = compressed_model()
    linears = compressed_linears(model)
    pruned = {name: linear.weight == 0 for name, linear in linears.items()}
    seen: list[bool] = []

    def look(step: Step) -> None:
        # Nothing pruned comes back, and nothing kept is lost.
        same = (torch.equal(linears[name].weight == 0, zero) for name, zero in pruned.items())
        seen.append(all(same))

    train(model, toy_data(64), Schedule(2, 16, 3e-3, weight_decay=weight_decay), on_step=look)
    assert seen == [True] * 8
    check_patterns(model)


def test_training_projects_what_was_not_projected() -> None:
    model = tiny_model()
    insert_quantizers(model, Recipe(default=Scheme.parse("2:4")))
    train(model, toy_data(16), SHORT)
    check_patterns(model)


@pytest.mark.parametrize("make", [tiny_model, compressed_model], ids=["dense", "compressed"])
def test_equal_seeds_give_equal_weights(make: Callable[[], PreTrainedModel]) -> None:
    def trained(seed: int) -> dict[str, torch.Tensor]:
        model = make()
        train(model, toy_data(48), Schedule(1, 16, 3e-3, seed=seed))
        return model.state_dict()

    first, second, other = trained(3), trained(3), trained(4)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("freeze", [True, False])
def test_embeddings_are_frozen_only_where_asked(freeze: bool) -> None:
    model = tiny_model()
    words = model.get_input_embeddings().weight
    before = words.detach().clone()
    train(model, toy_data(32), Schedule(1, 16, 3e-3, freeze_embeddings=freeze))
    assert torch.equal(words, before) is freeze
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_parameters_that_the_caller_froze_stay_frozen() -> None:
    model = tiny_model()
    pooler = model.get_submodule("bert.pooler.dense").requires_grad_(False)
    before = [parameter.clone() for parameter in pooler.parameters()]
    train(model, toy_data(16), SHORT)
    for parameter, old in zip(pooler.parameters(), before, strict=True):
        assert not parameter.requires_grad
        assert torch.equal(parameter, old)


def test_an_interrupted_training_gives_the_embeddings_back() -> None:
    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    model = tiny_model()
    with pytest.raises(KeyboardInterrupt):
        train(model, toy_data(16), SHORT, on_step=stop)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_training_ends_in_eval_mode_with_the_scales_of_the_final_weights() -> None:
    model = compressed_model()
    train(model, toy_data(32), SHORT)
    assert not any(module.training for module in model.modules())
    check_scales(model)
    for linear in compressed_linears(model).values():
        assert linear.weight_quantizer is not None
        largest = linear.weight.detach().abs().amax(dim=1)
        assert torch.equal(linear.weight_quantizer.scale, largest / 127)
        assert linear.codes().abs().amax() == 127


def test_a_regression_is_trained_on_its_scores() -> None:
    model = tiny_model(num_labels=1)
    data = toy_data(32, task=task_named("stsb"))
    steps: list[Step] = []
    train(model, data, SHORT, on_step=steps.append)
    assert len(steps) == 2
    assert all(np.isfinite(step.loss) for step in steps)


def test_training_without_calibration_is_refused() -> None:
    model = tiny_model()
    insert_quantizers(model, Recipe())
    with pytest.raises(InvalidScale) as caught:
        train(model, toy_data(16), SHORT)
    assert str(caught.value) == (
        "bert.embeddings.LayerNorm.output_quantizer: expected positive finite scales, found nan at "
        "index 0; calibrate the model before saving it"
    )


@pytest.mark.parametrize("placement", list(Placement))
def test_calibration_fixes_every_scale(placement: Placement) -> None:
    model = tiny_model()
    insert_quantizers(model, Recipe(placement=placement))
    calibrate(model, toy_data(32), batches=2, batch_size=8)
    check_scales(model)
    assert logits_of(model, toy_batch()).isfinite().all()


def test_calibrating_twice_gives_the_same_scales() -> None:
    model = compressed_model()
    before = {name: scale.clone() for name, scale in model.named_buffers() if "scale" in name}
    calibrate(model, toy_data(), batches=2, batch_size=8)
    after = dict(model.named_buffers())
    assert before
    assert all(torch.equal(after[name], scale) for name, scale in before.items())


def test_calibration_sees_short_and_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, seen = compressed_model(), toy_data(50), []
    batches = type(data).batches

    def watched(self: object, size: int, *, order: np.ndarray) -> object:
        seen.extend(order.tolist())
        return batches(data, size, order=order)

    monkeypatch.setattr(type(data), "batches", watched)
    calibrate(model, data, batches=3, batch_size=10)
    lengths = data.lengths[seen]
    assert len(seen) == len(set(seen)) == 30
    assert (lengths.min(), lengths.max()) == (data.lengths.min(), data.lengths.max())


@pytest.mark.parametrize(
    "poisoned",
    [
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.0.attention.self.key.weight",
        "bert.encoder.layer.0.output.LayerNorm.bias",
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_calibration_refuses_weights_that_are_not_finite(poisoned: str, value: float) -> None:
    model = tiny_model()
    insert_quantizers(model, Recipe())
    with torch.no_grad():
        model.get_parameter(poisoned).flatten()[:] = value
    with pytest.raises(InvalidScale) as caught:
        calibrate(model, toy_data(16), batches=1, batch_size=8)
    assert caught.value.expected == "positive finite scales"


def test_calibration_leaves_the_weights_alone() -> None:
    model, dense = compressed_model(recipe=Recipe(default=Scheme.parse("int8"))), tiny_model()
    for name, parameter in dense.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)
    observing = [m for m in model.modules() if isinstance(m, ActivationQuantizer) and m.histogram]
    assert observing == []


def test_a_distributed_launch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    with pytest.raises(UsageError) as refusal:
        train(tiny_model(), toy_data(), Schedule())
    assert str(refusal.value) == (
        "train: expected one process, found 2 of a distributed launch; "
        "start it without accelerate launch or torchrun"
    )
