import copy

import pytest
import torch
from transformers import PreTrainedModel

from nxmi_export.compression.calibrate import calibrate
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.compression.restore import check_scales
from nxmi_export.compression.scales import (
    freeze_scales,
    learn_scales,
    load_quantizer_state,
    quantizer_state,
    scale_parameters,
    set_quantizing,
)
from nxmi_export.recipe import Recipe
from tests.tiny_models import logits_of, tiny_model, toy_batch, toy_data

FIXED = "bert.encoder.layer.0.attention.self.softmax_quantizer"


def _calibrated(**recipe: object) -> PreTrainedModel:
    model = tiny_model()
    insert_quantizers(model, Recipe.from_mapping({"default": "int8", **recipe}, source="test"))
    calibrate(model, toy_data(16), batches=1, batch_size=16)
    return model


def _step(model: PreTrainedModel) -> None:
    """One step of gradient descent on every parameter."""
    model.train()
    labels = torch.tensor([0, 1, 0, 1])
    model(**toy_batch(), labels=labels).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    model.zero_grad()


def _quantizers(model: PreTrainedModel) -> dict[str, ActivationQuantizer | WeightQuantizer]:
    kinds = (ActivationQuantizer, WeightQuantizer)
    return {name: each for name, each in model.named_modules() if isinstance(each, kinds)}


def test_every_scale_but_the_fixed_ones_is_learned() -> None:
    model = _calibrated()
    learn_scales(model)
    fixed = {name for name, each in _quantizers(model).items() if each.log_step is None}
    assert fixed == {FIXED, FIXED.replace("layer.0", "layer.1")}
    assert len(scale_parameters(model)) == len(_quantizers(model)) - 2
    trained = {id(parameter) for parameter in model.parameters()}
    assert all(id(parameter) in trained for parameter in scale_parameters(model))


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("activations", [True, False])
def test_the_settings_say_which_scales_are_learned(weights: bool, activations: bool) -> None:
    model = _calibrated(weights={"learned": weights}, activations={"learned": activations})
    learn_scales(model)
    learning = {type(each) for each in _quantizers(model).values() if each.log_step is not None}
    expected = {WeightQuantizer: weights, ActivationQuantizer: activations}
    assert learning == {kind for kind, learned in expected.items() if learned}


def test_every_learned_step_gets_a_gradient() -> None:
    model = _calibrated()
    learn_scales(model)
    model.train()
    model(**toy_batch(), labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    gradients = [parameter.grad for parameter in scale_parameters(model)]
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)
    assert any(grad is not None and grad.any() for grad in gradients)


def test_freezing_restores_the_keys_and_keeps_the_values() -> None:
    model = _calibrated()
    keys = list(model.state_dict())
    learn_scales(model)
    before = [parameter.detach().clone() for parameter in scale_parameters(model)]
    _step(model)
    pairs = zip(before, scale_parameters(model), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)
    learned = logits_of(model.eval(), toy_batch())
    freeze_scales(model)
    assert list(model.state_dict()) == keys
    assert scale_parameters(model) == []
    assert torch.equal(logits_of(model, toy_batch()), learned)
    check_scales(model)


def test_no_training_forward_moves_a_frozen_scale() -> None:
    model = _calibrated(weights={"learned": False})
    freeze_scales(model)
    before = {name: each.scale.clone() for name, each in _quantizers(model).items()}
    _step(model)
    _step(model)
    assert all(torch.equal(each.scale, before[name]) for name, each in _quantizers(model).items())


def test_freezing_fits_unlearned_weight_scales_to_the_final_weights() -> None:
    model = _calibrated(weights={"learned": False})
    _step(model)
    freeze_scales(model)
    for linear in compressed_linears(model).values():
        assert linear.weight_quantizer is not None
        assert torch.equal(linear.weight_quantizer.scale, linear.weight.abs().amax(1) / 127)


def test_freezing_keeps_a_held_scale() -> None:
    model = _calibrated(weights={"learned": False})
    linear = next(iter(compressed_linears(model).values()))
    assert linear.weight_quantizer is not None
    linear.weight_quantizer.hold(torch.full((32,), 0.25))
    _step(model)
    freeze_scales(model)
    assert (linear.weight_quantizer.scale == 0.25).all()


def test_a_model_that_does_not_quantize_is_the_dense_one() -> None:
    model, feeds = _calibrated(), toy_batch()
    quantized = logits_of(model, feeds)
    set_quantizing(model, False)
    torch.testing.assert_close(logits_of(model, feeds), logits_of(tiny_model(), feeds))
    set_quantizing(model, True)
    assert torch.equal(logits_of(model, feeds), quantized)


def test_training_goes_on_from_a_state_as_if_it_had_not_stopped() -> None:
    first = _calibrated(
        default="int4", weights={"learned": False, "calibration": "mse"}, activations={}
    )
    held = next(iter(compressed_linears(first).values())).weight_quantizer
    assert held is not None
    held.hold(held.scale.clone())
    learn_scales(first)
    weights, quantizers = copy.deepcopy(first.state_dict()), quantizer_state(first)

    second = _calibrated(default="int4", weights={"learned": False, "calibration": "mse"})
    with torch.no_grad():
        for each in _quantizers(second).values():
            each.enabled = False
            if isinstance(each, WeightQuantizer):
                each.ratio.fill_(0.5)
    learn_scales(second)
    second.load_state_dict(weights)
    load_quantizer_state(second, quantizers)
    for model in (first, second):
        torch.manual_seed(0)
        _step(model)
        _step(model)
    assert all(
        torch.equal(tensor, second.state_dict()[name])
        for name, tensor in first.state_dict().items()
    )


def test_a_model_with_learned_scales_can_be_copied() -> None:
    model = _calibrated()
    learn_scales(model)
    twin = copy.deepcopy(model)
    _step(model)
    _step(twin)
    pairs = zip(scale_parameters(model), scale_parameters(twin), strict=True)
    assert all(first is not second for first, second in pairs)
