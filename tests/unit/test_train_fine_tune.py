import functools
import random
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression import RunOptions, fine_tune
from nxmi_export.compression.progress import EpochDone, Progress, StepDone
from nxmi_export.compression.training.snapshots import snapshot_step
from nxmi_export.errors import TrainingDiverged, UsageError
from nxmi_export.glue import task_named
from nxmi_export.recipe import TrainingSettings
from tests.tiny_models import tiny_model, toy_data

SHORT = TrainingSettings(epochs=2, batch_size=16, learning_rate=3e-3, dropout=None, trained="all")
_model = functools.partial(tiny_model, num_hidden_layers=1)
NO_DROPOUT = SHORT.model_copy(update={"dropout": 0.0})


def _trained(
    training: TrainingSettings = SHORT,
    options: RunOptions = RunOptions(),  # noqa: B008
    *,
    examples: int = 40,
    change: Callable[[PreTrainedModel], object] = lambda model: None,
) -> tuple[PreTrainedModel, list[StepDone]]:
    model = _model()
    change(model)
    steps: list[StepDone] = []

    def note(progress: Progress) -> None:
        if isinstance(progress, StepDone):
            steps.append(progress)

    fine_tune(model, toy_data(examples), training, options, on_progress=note)
    return model, steps


def _same(first: PreTrainedModel, second: PreTrainedModel) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_learns_a_learnable_task(precision: str) -> None:
    training = SHORT.model_copy(update={"epochs": 15})
    _, steps = _trained(training, RunOptions(precision=precision), examples=96)
    losses = [step.loss for step in steps]
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])


def test_every_step_is_announced() -> None:
    _, steps = _trained()
    assert [(s.number, s.total, s.epoch) for s in steps] == [
        *((1, 6, 1), (2, 6, 1), (3, 6, 1), (4, 6, 2), (5, 6, 2), (6, 6, 2)),
    ]
    assert all(step.losses == {"labels": step.loss} for step in steps)
    assert steps[0].learning_rate == 3e-3


def test_the_model_ends_in_eval_mode_with_everything_trainable() -> None:
    model, _ = _trained()
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_equal_seeds_give_equal_weights() -> None:
    first, second, other = (_trained(options=RunOptions(seed=seed))[0] for seed in (3, 3, 4))
    assert _same(first, second)
    assert not _same(first, other)


def test_what_was_drawn_before_changes_nothing() -> None:
    first, _ = _trained()

    def draw(model: PreTrainedModel) -> None:
        torch.rand(5)
        random.random()

    assert _same(first, _trained(change=draw)[0])


def test_micro_batches_give_the_gradients_of_the_whole_batch() -> None:
    one, one_steps = _trained(NO_DROPOUT)
    many, many_steps = _trained(NO_DROPOUT, RunOptions(accumulation=5))
    assert [s.loss for s in many_steps] == pytest.approx([s.loss for s in one_steps], rel=1e-5)
    other = dict(many.named_parameters())
    for name, weight in one.named_parameters():
        if not name.endswith("key.bias"):  # whose gradient is rounding and nothing else
            torch.testing.assert_close(other[name], weight, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("trained", ["all", "encoder"])
def test_embeddings_train_only_where_asked(trained: str) -> None:
    model, _ = _trained(SHORT.model_copy(update={"trained": trained}))
    before = _model()
    for name, embedding in model.named_modules():
        if isinstance(embedding, nn.Embedding):
            same = torch.equal(embedding.weight, before.get_parameter(f"{name}.weight"))
            assert same is (trained == "encoder")
    head = model.get_parameter("classifier.weight")
    assert not torch.equal(head, before.get_parameter("classifier.weight"))


def test_a_dense_model_has_nothing_compressed_to_train() -> None:
    with pytest.raises(UsageError) as refusal:
        _trained(SHORT.model_copy(update={"trained": "compressed"}))
    assert str(refusal.value) == (
        "trained: compressed: expected at least one weight to train, found none in this model; "
        "write trained: encoder or trained: all"
    )


def test_what_the_caller_froze_stays_frozen() -> None:
    model, _ = _trained(change=lambda m: m.get_submodule("bert.pooler").requires_grad_(False))
    for name, parameter in model.get_submodule("bert.pooler").named_parameters():
        assert not parameter.requires_grad
        assert torch.equal(parameter, _model().get_parameter(f"bert.pooler.{name}"))


def test_dropout_is_the_recipes_while_training_and_the_models_afterwards() -> None:
    seen: set[float] = set()
    model = _model()
    drops = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    before = [drop.p for drop in drops]
    fine_tune(
        model,
        toy_data(16),
        SHORT.model_copy(update={"dropout": 0.25}),
        on_progress=lambda _: seen.update(drop.p for drop in drops),
    )
    assert seen == {0.25}
    assert [drop.p for drop in drops] == before
    assert set(before) == {0.1}


def test_a_regression_is_trained_on_its_scores() -> None:
    steps: list[Progress] = []
    data = toy_data(32, task=task_named("stsb"))
    fine_tune(_model(num_labels=1), data, SHORT, on_progress=steps.append)
    assert all(np.isfinite(step.loss) for step in steps if isinstance(step, StepDone))


def test_measuring_sees_eval_mode_and_changes_nothing() -> None:
    epochs: list[EpochDone] = []

    def evaluate(model: PreTrainedModel) -> Mapping[str, float]:
        assert not any(module.training for module in model.modules())
        return {"drawn": torch.rand(()).item()}

    def note(progress: Progress) -> None:
        if isinstance(progress, EpochDone):
            epochs.append(progress)

    model = _model()
    fine_tune(model, toy_data(40), SHORT, evaluate=evaluate, on_progress=note)
    assert _same(model, _trained()[0])
    assert [(done.epoch, done.step) for done in epochs] == [(1, 3), (2, 6)]
    assert all(done.metrics.keys() == {"drawn"} for done in epochs)
    assert all(done.projected == done.metrics for done in epochs)


def _poison(name: str, at: int = 0) -> Callable[[PreTrainedModel], None]:
    def poison(model: PreTrainedModel) -> None:
        with torch.no_grad():
            model.get_parameter(name).view(-1)[at] = torch.nan

    return poison


def test_a_loss_that_is_no_number_names_the_place_where_it_began() -> None:
    with pytest.raises(TrainingDiverged) as diverged:
        _trained(change=_poison("bert.encoder.layer.0.attention.self.value.weight"))
    assert str(diverged.value) == (
        "step 1 (epoch 1): expected finite losses and gradients, found a loss of nan, which begins "
        "in the output of bert.encoder.layer.0.attention.self.value; lower the learning rate: "
        "--overwrite --learning-rate RATE begins anew, as there is no good snapshot"
    )
    assert diverged.value.exit_code == 1


def test_a_gradient_that_is_no_number_is_found_before_it_reaches_a_weight() -> None:
    def spoil(gradient: Tensor) -> Tensor:
        return gradient * torch.inf

    model = _model()
    model.get_parameter("classifier.bias").register_hook(spoil)
    with pytest.raises(TrainingDiverged) as diverged:
        fine_tune(model, toy_data(16), SHORT)
    assert "which begins in the gradient of classifier.bias" in str(diverged.value)
    assert _same(model, _model())


def test_a_run_that_diverges_names_the_snapshot_before(tmp_path: Path) -> None:
    model = _model()

    def note(progress: Progress) -> None:
        if isinstance(progress, StepDone) and progress.number == 4:
            _poison("classifier.bias")(model)

    options = RunOptions(snapshots=tmp_path, snapshot_seconds=1e9)
    with pytest.raises(TrainingDiverged) as diverged:
        fine_tune(model, toy_data(40), SHORT, options, on_progress=note)
    assert diverged.value.subject == "step 5 (epoch 2)"
    assert diverged.value.remedy == (
        "lower the learning rate: --resume --learning-rate RATE continues from the snapshot after "
        "step 3, --overwrite --learning-rate RATE begins anew"
    )


AGAIN = (
    "--resume --learning-rate RATE continues from the snapshot after step 3, "
    "--overwrite --learning-rate RATE begins anew"
)
ANEW = "--overwrite --learning-rate RATE begins anew, as there is no good snapshot"
LAST_POSITION = "bert.embeddings.position_embeddings.weight"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("classifier.bias", "the output of classifier"),
        # of a position that no text reaches, so that every output is finite
        (LAST_POSITION, f"the parameter {LAST_POSITION}"),
    ],
)
@pytest.mark.parametrize(("step", "epoch"), [(3, 1), (6, 2)])
def test_an_epochs_last_step_may_break_the_weights_too(
    tmp_path: Path, name: str, place: str, step: int, epoch: int
) -> None:
    model, told = _model(), []

    def note(progress: Progress) -> None:
        told.append(progress)
        if isinstance(progress, StepDone) and progress.number == step:
            _poison(name, at=-1)(model)

    options = RunOptions(snapshots=tmp_path, snapshot_seconds=1e9)
    with pytest.raises(TrainingDiverged) as diverged:
        fine_tune(model, toy_data(40), SHORT, options, on_progress=note)
    assert str(diverged.value) == (
        f"step {step} (epoch {epoch}): expected weights that give finite numbers, found NaN or "
        f"infinite ones, which begin in {place}; lower the learning rate: "
        f"{ANEW if epoch == 1 else AGAIN}"
    )
    assert snapshot_step(tmp_path) == (None if epoch == 1 else 3)
    assert sum(isinstance(each, EpochDone) for each in told) == epoch - 1


def test_no_snapshot_is_made_of_broken_weights(tmp_path: Path) -> None:
    model = _model()

    def note(progress: Progress) -> None:
        if isinstance(progress, StepDone) and progress.number == 5:
            _poison(LAST_POSITION, at=-1)(model)

    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0)  # after every step
    with pytest.raises(TrainingDiverged) as diverged:
        fine_tune(model, toy_data(40), SHORT, options, on_progress=note)
    assert "--resume --learning-rate RATE continues from the snapshot after step 4" in str(
        diverged.value
    )
    assert snapshot_step(tmp_path) == 4


def _overflows_at(steps: Collection[int], heard: list[Progress]) -> PreTrainedModel:
    """A model whose gradients are infinite in `steps`; `heard` counts them."""
    model = _model()

    def overflow(gradient: Tensor) -> Tensor:
        done = sum(isinstance(each, StepDone) for each in heard)
        return gradient * torch.inf if done + 1 in steps else gradient

    model.get_parameter("classifier.bias").register_hook(overflow)
    return model


def test_float16_skips_a_step_whose_gradients_overflow() -> None:
    model = _overflows_at((1, 2), [])
    fine_tune(model, toy_data(16), SHORT, RunOptions(precision="fp16"))
    assert _same(model, _model())


MANY = SHORT.model_copy(update={"epochs": 40})  # of one step


def test_float16_gives_up_after_twenty_skipped_steps_in_a_row() -> None:
    heard: list[Progress] = []
    model = _overflows_at(range(1, 41), heard)
    options = RunOptions(precision="fp16")
    with pytest.raises(TrainingDiverged) as diverged:
        fine_tune(model, toy_data(16), MANY, options, on_progress=heard.append)
    assert str(diverged.value) == (
        "step 20 (epoch 20): expected finite losses and gradients, found a gradient norm of inf, "
        "for which the last 20 steps were skipped, which begins in the gradient of "
        "classifier.bias; lower the learning rate: --overwrite --learning-rate RATE begins anew, "
        "as there is no good snapshot"
    )


def test_one_good_step_starts_the_count_of_skipped_ones_anew() -> None:
    heard: list[Progress] = []
    model = _overflows_at({*range(1, 41)} - {20, 40}, heard)
    options = RunOptions(precision="fp16")
    fine_tune(model, toy_data(16), MANY, options, on_progress=heard.append)
    assert not _same(model, _model())
