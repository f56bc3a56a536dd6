import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from nxmi_export.compression import (
    RunOptions,
    checkpoint_of,
    compress,
    compressed_linears,
    insert_quantizers,
    restore,
)
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.progress import EpochDone, Progress, StageBegun, StepDone
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.compression.restore import check_patterns, check_scales
from nxmi_export.compression.sparsity import pattern_mask
from nxmi_export.compression.training.quantization import (
    begin_quantizing,
    hand_over,
    train_scales,
)
from nxmi_export.encoding import Batch, EncodedDataset
from nxmi_export.errors import DataError, InternalError, UsageError
from nxmi_export.glue import task_named
from nxmi_export.recipe import (
    PRESETS,
    ActivationSettings,
    Calibration,
    Component,
    DistillationSettings,
    Recipe,
    Scheme,
    SparsitySettings,
    TrainingSettings,
    WeightSettings,
    preset,
)
from tests.tiny_models import logits_of, tiny_model, toy_batch, toy_data

QUICK = TrainingSettings(epochs=2, batch_size=16, learning_rate=1e-3)
LABELS = DistillationSettings(logits=0.0, hidden=0.0)
# One block has a linear of every component.
_model = functools.partial(tiny_model, num_hidden_layers=1)


def _run(recipe: Recipe, **options: Any) -> tuple[PreTrainedModel, list[Progress]]:
    model, heard = _model(), list[Progress]()
    compress(model, toy_data(48), recipe, on_progress=heard.append, **options)
    return model, heard


def _quick(name: str, **training: Any) -> Recipe:
    return preset(name).model_copy(update={"training": QUICK.model_copy(update=training)})


@functools.cache
def _untrained(name: str) -> tuple[PreTrainedModel, list[Progress]]:
    """A run of preset `name` without epochs, which the tests look at and leave as it is."""
    return _run(_quick(name, epochs=0))


def _epochs(heard: list[Progress]) -> list[EpochDone]:
    return [each for each in heard if isinstance(each, EpochDone)]


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_ends_compressed_calibrated_and_in_eval_mode(name: str, epochs: int) -> None:
    model, _ = _run(_quick(name, epochs=epochs)) if epochs else _untrained(name)
    check_scales(model)
    check_patterns(model)
    assert not any(module.training for module in model.modules())
    assert not any("log_step" in key for key in model.state_dict())
    assert logits_of(model, toy_batch()).isfinite().all()
    for linear in compressed_linears(model).values():
        if linear.weight_quantizer is not None and linear.scheme.pattern is not None:
            groups = (linear.codes() != 0).reshape(linear.out_features, -1, 4).sum(-1)
            assert groups.max() <= linear.scheme.pattern.keep


def test_compression_in_training_learns_a_learnable_task() -> None:
    training = TrainingSettings(epochs=15, batch_size=16, learning_rate=3e-3)
    losses: list[float] = []

    def note(progress: Progress) -> None:
        if isinstance(progress, StepDone):
            losses.append(progress.losses["labels"])

    recipe = Recipe(distillation=LABELS, training=training)
    compress(_model(), toy_data(96), recipe, on_progress=note)
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])


def test_every_term_of_the_objective_is_reported() -> None:
    recipe = Recipe(
        distillation=DistillationSettings(labels=2.0, logits=0.5, hidden=3.0, attention=0.25),
        training=QUICK,
    )
    _, heard = _run(recipe)
    for step in heard:
        if isinstance(step, StepDone):
            terms = step.losses
            total = 2 * terms["labels"] + terms["logits"] / 2
            total += 3 * terms["hidden"] + terms["attention"] / 4
            assert step.loss == pytest.approx(total, rel=1e-5)


def test_admm_is_measured_before_and_after_projection() -> None:
    seen: list[float] = []

    def evaluate(model: PreTrainedModel) -> Mapping[str, float]:
        linears = compressed_linears(model).values()
        zeros = torch.stack([(linear.weight == 0).float().mean() for linear in linears]).mean()
        seen.append(float(zeros))
        return {"zeros": float(zeros)}

    recipe = Recipe(sparsity=SparsitySettings(recovery=0.5), training=QUICK)
    _, heard = _run(recipe, evaluate=evaluate)
    before, after = _epochs(heard)
    assert before.metrics["zeros"] < 0.1
    assert before.projected["zeros"] == pytest.approx(0.5, abs=0.01)
    assert before.residuals is not None
    assert before.residuals.primal > 0
    assert after.metrics == after.projected  # measured once: the weights are on their pattern
    assert after.metrics["zeros"] == pytest.approx(0.5, abs=0.01)
    assert after.residuals is None
    assert len(seen) == 3


def test_without_recovery_the_projection_is_the_last_thing() -> None:
    recipe = Recipe(sparsity=SparsitySettings(recovery=0.0), training=QUICK)
    _, heard = _run(recipe)
    assert heard[-2:] == [
        StageBegun("projecting the weights onto their patterns"),
        StageBegun("calibrating the quantizers"),
    ]


def _scales(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: each for name, each in model.named_buffers() if name.endswith("scale")}


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("recovery", [0.5, 0.0])
def test_scales_are_fitted_again_to_the_projected_weights(recovery: float, learned: bool) -> None:
    """Where training moves nothing, they are those of a model pruned without training."""
    recipe = Recipe(
        sparsity=SparsitySettings(
            initial="magnitude", penalty="gradient", rho=1e-12, recovery=recovery
        ),
        weights=WeightSettings(calibration=Calibration(method="mse"), learned=learned),
        activations=ActivationSettings(learned=learned),
        training=QUICK.model_copy(update={"learning_rate": 1e-12, "scale_learning_rate": 1e-12}),
    )
    trained, _ = _run(recipe)
    pruned, _ = _run(recipe.model_copy(update={"training": QUICK.model_copy(update={"epochs": 0})}))
    expected = _scales(pruned)
    assert expected
    for name, scale in _scales(trained).items():
        torch.testing.assert_close(scale, expected[name], rtol=1e-5, atol=0, msg=name)


def test_steps_of_weights_without_a_pattern_survive_the_projection() -> None:
    recipe = Recipe(schemes={Component.FFN_UP: Scheme.parse("int8")})
    model, data = _model(), toy_data(16)
    insert_quantizers(model, recipe)
    begin_quantizing(model, data)
    learned = train_scales(model)
    with torch.no_grad():
        for step in learned:
            step.add_(1)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    hand_over(model, data)
    kept = {
        name
        for name, each in model.named_parameters()
        if name.endswith("log_step") and torch.equal(each, before[name])
    }
    assert kept == {"bert.encoder.layer.0.intermediate.dense.weight_quantizer.log_step"}


def test_what_projection_would_cost_is_measured_under_the_steps_that_follow_it() -> None:
    """Also of learned steps, which the measurement leaves as they were."""
    model, steps = _model(), list[dict[str, torch.Tensor]]()

    def evaluate(model: PreTrainedModel) -> Mapping[str, float]:
        steps.append(
            {
                name: linear.weight_quantizer.codes(linear.weight).abs().amax()
                for name, linear in compressed_linears(model).items()
                if linear.weight_quantizer is not None
            }
        )
        return {}

    def widen(progress: Progress) -> None:
        if isinstance(progress, StepDone) and progress.number == 3:
            with torch.no_grad():
                for linear in compressed_linears(model).values():
                    assert linear.weight_quantizer is not None
                    assert linear.weight_quantizer.log_step is not None
                    linear.weight_quantizer.log_step.add_(1)

    recipe = Recipe(sparsity=SparsitySettings(recovery=0.0), training=QUICK)
    compress(model, toy_data(48), recipe, evaluate=evaluate, on_progress=widen)
    trained, projected, afterwards, _ = steps
    assert all(largest < 127 for largest in trained.values())
    assert all(largest == 127 for largest in projected.values())
    assert all(largest < 127 for largest in afterwards.values())


@pytest.mark.parametrize("epochs", [0, 2])
def test_calibration_counts_its_examples_whatever_the_batches_of_training(
    epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(
        activations=ActivationSettings(calibration_batches=1),
        sparsity=SparsitySettings(method="magnitude", initial="magnitude"),
        training=QUICK.model_copy(update={"epochs": epochs, "batch_size": 4}),
    )
    seen: list[int] = []
    original = EncodedDataset.batches

    def watched(self: EncodedDataset, size: int, **options: Any) -> Iterator[Batch]:
        for batch in original(self, size, **options):
            seen.append(len(batch.indices))
            yield batch

    monkeypatch.setattr(EncodedDataset, "batches", watched)
    _run(recipe)
    assert sum(seen) == 32


def test_integers_that_break_their_pattern_are_not_let_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ones(linear: CompressedLinear) -> torch.Tensor:
        return torch.ones_like(linear.weight, dtype=torch.int8)

    monkeypatch.setattr(CompressedLinear, "codes", ones)
    with pytest.raises(InternalError) as failure:
        _run(_quick("deploy", epochs=0))
    assert str(failure.value) == (
        "integer weights of bert.encoder.layer.0.attention.self.query: expected 2:4 sparsity "
        "along in_features, found 4 non-zeros in group 0 of row 0; please report it with the "
        "recipe"
    )


def test_under_final_masks_nothing_pruned_comes_back() -> None:
    model = _model()
    zeros: list[dict[str, torch.Tensor]] = []

    def note(progress: Progress) -> None:
        if isinstance(progress, StepDone):
            linears = compressed_linears(model)
            zeros.append({name: linear.weight == 0 for name, linear in linears.items()})

    recipe = Recipe(
        sparsity=SparsitySettings(recovery=0.5),
        training=QUICK.model_copy(update={"weight_decay": 0.1}),
    )
    compress(model, toy_data(48), recipe, on_progress=note)
    first = zeros[3]  # the first step after the projection
    assert all(zero.float().mean() >= 0.5 for zero in first.values())
    assert all(torch.equal(later[name], first[name]) for later in zeros[4:] for name in first)


def test_quantizers_begin_where_the_recipe_says() -> None:
    model = _model()
    rounding: list[set[bool]] = []

    def note(progress: Progress) -> None:
        if isinstance(progress, StepDone):
            quantizers = [m for m in model.modules() if isinstance(m, ActivationQuantizer)]
            rounding.append({quantizer.enabled for quantizer in quantizers})

    recipe = preset("sequential").model_copy(
        update={"training": QUICK.model_copy(update={"quantize_after": 0.5})}
    )
    compress(model, toy_data(48), recipe, on_progress=note)
    assert rounding == [{False}] * 3 + [{True}] * 3


def test_learned_scales_move_and_are_frozen_at_the_end() -> None:
    learned, _ = _run(Recipe(training=QUICK))
    recipe = Recipe(training=QUICK.model_copy(update={"scale_learning_rate": 1e-12}))
    still, _ = _run(recipe)
    name = "bert.encoder.layer.0.output.dense.input_quantizer.scale"
    assert learned.get_buffer(name) != still.get_buffer(name)
    assert not any("log_step" in key for key, _ in learned.named_parameters())


def test_ptq_moves_the_weights_of_linears_and_needs_no_labels() -> None:
    model, heard = _run(preset("ptq"))
    assert not any(isinstance(each, StepDone | EpochDone) for each in heard)
    stages = [each.stage for each in heard if isinstance(each, StageBegun)]
    assert stages[0] == "reconstructing the linears"
    assert stages[-1] == "calibrating the quantizers"
    dense, linears = _model(), compressed_linears(model)
    assert len(linears) == 6
    for name, parameter in dense.named_parameters():
        same = torch.equal(model.get_parameter(name), parameter)
        assert same is (name.removesuffix(".weight") not in linears)
    others = dataclasses.replace(toy_data(48).dataset, labels=1 - toy_data(48).dataset.labels)
    again = _model()
    compress(again, dataclasses.replace(toy_data(48), dataset=others), preset("ptq"))
    found = again.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_ptq_is_nearer_to_the_dense_model_than_its_largest_weights_are() -> None:
    ptq = preset("ptq")
    magnitude = ptq.sparsity.model_copy(update={"initial": "magnitude"})
    off = []
    for recipe in (ptq, ptq.model_copy(update={"sparsity": magnitude})):
        model, _ = _run(recipe)
        off.append(float((logits_of(model, toy_batch()) - logits_of(_model(), toy_batch())).norm()))
    assert off[0] < off[1]


@pytest.mark.parametrize("name", PRESETS)
def test_without_epochs_every_preset_leaves_what_it_does_not_compress(name: str) -> None:
    model, heard = _untrained(name)
    assert not any(isinstance(each, StepDone | EpochDone) for each in heard)
    dense, linears = _model(), compressed_linears(model)
    assert {each.scheme for each in linears.values()} == {preset(name).default}
    for parameter_name, parameter in dense.named_parameters():
        if parameter_name.removesuffix(".weight") not in linears:
            assert torch.equal(model.get_parameter(parameter_name), parameter)


@pytest.mark.parametrize("initial", ["magnitude", "reconstruction"])
def test_without_epochs_weights_are_projected_and_not_trained(initial: Any) -> None:
    recipe = Recipe(
        sparsity=SparsitySettings(initial=initial),
        training=QUICK.model_copy(update={"epochs": 0}),
    )
    model, heard = _run(recipe)
    dense = _model()
    kept = True
    for name, linear in compressed_linears(model).items():
        weight = dense.get_parameter(f"{name}.weight")
        assert linear.scheme.pattern is not None
        magnitude = weight * pattern_mask(weight, linear.scheme.pattern)
        kept = kept and torch.equal(linear.weight, magnitude)
    assert kept is (initial == "magnitude")
    assert not any(isinstance(each, StepDone) for each in heard)


def test_reconstruction_keeps_int4_weights_on_their_grid_without_training() -> None:
    recipe = preset("w4").model_copy(
        update={
            "sparsity": SparsitySettings(initial="reconstruction"),
            "training": QUICK.model_copy(update={"epochs": 0}),
        }
    )
    model, _ = _run(recipe)
    for linear in compressed_linears(model).values():
        assert linear.weight_quantizer is not None
        carried = linear.codes() * linear.weight_quantizer.scale[:, None]
        torch.testing.assert_close(carried, linear.weight.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["admm", "magnitude"])
def test_training_may_begin_from_reconstruction(method: Any) -> None:
    sparsity = SparsitySettings(method=method, initial="reconstruction")
    model, _ = _run(Recipe(sparsity=sparsity, training=QUICK))
    check_patterns(model)


# Weights stay where a run begins: what is put there, and when, is then seen at its end.
STILL = QUICK.model_copy(update={"learning_rate": 1e-12})


@pytest.mark.parametrize("quantize_after", [0.0, 0.5])
def test_int4_weights_go_to_their_grid_no_earlier_than_they_are_quantized(
    quantize_after: float,
) -> None:
    recipe = Recipe(
        default=Scheme.parse("int4"),
        weights=WeightSettings(learned=True),
        training=STILL.model_copy(update={"quantize_after": quantize_after}),
    )
    model, _ = _run(recipe)
    dense = _model()
    for name, linear in compressed_linears(model).items():
        quantizer = linear.weight_quantizer
        assert quantizer is not None
        unmoved = torch.allclose(linear.weight, dense.get_parameter(f"{name}.weight"), atol=1e-8)
        assert unmoved is (quantize_after > 0)
        if unmoved:
            trained = quantizer.scale.clone()
            quantizer.release()
            quantizer.fit(linear.weight)
            # Steps have a rate of their own.
            torch.testing.assert_close(trained, quantizer.scale, rtol=0.01, atol=0.0)


def test_a_projection_before_the_first_step_is_the_reconstruction() -> None:
    recipe = Recipe(sparsity=SparsitySettings(recovery=1.0), training=STILL)
    assert (recipe.sparsity.method, recipe.sparsity.initial) == ("admm", "reconstruction")
    model, _ = _run(recipe)
    expected, _ = _run(
        recipe.model_copy(update={"training": QUICK.model_copy(update={"epochs": 0})})
    )
    reconstructed = compressed_linears(expected)
    for name, linear in compressed_linears(model).items():
        torch.testing.assert_close(linear.weight, reconstructed[name].weight)


@pytest.mark.parametrize("name", ["2:4+int8", "tables"])
def test_a_model_that_is_compressed_already_is_refused(name: str) -> None:
    recipe = Recipe(default=Scheme(), embeddings="int8") if name == "tables" else Recipe()
    model = _model()
    insert_quantizers(model, recipe)
    with pytest.raises(UsageError) as refusal:
        compress(model, toy_data(8), Recipe(training=QUICK))
    assert str(refusal.value).startswith(
        "BertForSequenceClassification: expected a dense model to compress, found one that is "
        "compressed already, bert.e"
    )


def test_the_method_of_pruning_is_nothing_to_linears_without_a_pattern() -> None:
    first, second = (
        _run(
            Recipe(
                default=Scheme.parse("int4"),
                sparsity=SparsitySettings(method=method, initial="reconstruction"),
                distillation=LABELS,
                training=QUICK,
            )
        )[0].state_dict()
        for method in ("admm", "magnitude")
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_only_compressed_linears_train_where_the_recipe_says_so() -> None:
    recipe = Recipe(
        distillation=LABELS, training=QUICK.model_copy(update={"trained": "compressed"})
    )
    model, _ = _run(recipe)
    dense = _model().state_dict()
    linears = compressed_linears(model)
    for name, parameter in model.named_parameters():
        inside = name.rpartition(".")[0] in linears
        assert torch.equal(parameter, dense[name]) is not inside


def test_a_recipe_that_compresses_nothing_cannot_train_compressed_linears() -> None:
    recipe = Recipe(default=Scheme(), training=QUICK.model_copy(update={"trained": "compressed"}))
    with pytest.raises(UsageError, match="found none in this model"):
        _run(recipe)


def test_a_regression_is_compressed_towards_its_scores() -> None:
    model = _model(num_labels=1)
    heard: list[Progress] = []
    data = toy_data(32, task=task_named("stsb"))
    compress(model, data, Recipe(training=QUICK), on_progress=heard.append)
    assert all(np.isfinite(each.loss) for each in heard if isinstance(each, StepDone))


def test_data_without_examples_are_refused_before_the_model_is_touched() -> None:
    model = _model()
    with pytest.raises(DataError, match="expected at least one example, found none"):
        compress(model, toy_data(4).select(np.array([], np.int64)), Recipe())
    assert not compressed_linears(model)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_keeps_the_weights_in_float32(precision: Any) -> None:
    model, _ = _run(Recipe(training=QUICK), options=RunOptions(precision=precision))
    assert _float_types(model) == {torch.float32}


def test_weights_of_half_precision_are_trained_in_float32() -> None:
    model = _model().bfloat16()
    recipe = Recipe(training=QUICK)
    compress(model, toy_data(48), recipe)
    assert _float_types(model) == {torch.float32}
    restore(checkpoint_of(model, recipe=recipe, tokenizer={}, provenance={}))


def _float_types(model: PreTrainedModel) -> set[torch.dtype]:
    tensors = model.state_dict().values()
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
