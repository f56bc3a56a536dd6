from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression.calibrate import calibrate
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.compression.restore import check_scales
from nxmi_export.compression.scales import learn_scales, set_quantizing
from nxmi_export.compression.sparsity import magnitude_masks
from nxmi_export.encoding import Batch, EncodedDataset
from nxmi_export.errors import InvalidScale
from nxmi_export.recipe import ActivationSettings, Calibration, Placement, Recipe, Scheme
from tests.tiny_models import logits_of, project, tiny_model, toy_batch, toy_data

METHODS = ("max", "mse", "percentile:99.95")


def _model(placement: Placement = Placement.SPARSE, **settings: object) -> PreTrainedModel:
    recipe = {"default": "int8", "placement": placement.value, **settings}
    model = tiny_model()
    insert_quantizers(model, Recipe.from_mapping(recipe, source="test"))
    return model


def _scales(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in model.named_buffers() if name.endswith("scale")}


def _settings(method: str, batches: int = 16) -> ActivationSettings:
    return ActivationSettings(calibration=Calibration.parse(method), calibration_batches=batches)


def _assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, scale in first.items():
        # Other batches sum in another order, which may move a value across the edge of a bin.
        torch.testing.assert_close(scale, second[name], rtol=1e-4, atol=0, msg=name)


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("method", METHODS)
def test_calibration_fixes_every_scale(placement: Placement, method: str) -> None:
    model = _model(placement)
    calibrate(model, toy_data(32), _settings(method, 2), batch_size=8)
    check_scales(model)
    assert logits_of(model, toy_batch()).isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_scales_do_not_depend_on_how_the_examples_are_batched(method: str) -> None:
    model, scales = _model(), []
    for batch_size in (1, 4, 16):
        calibrate(
            model, toy_data(32), _settings(method), batches=32 // batch_size, batch_size=batch_size
        )
        scales.append(_scales(model))
    _assert_equal(scales[0], scales[1])
    _assert_equal(scales[0], scales[2])


@pytest.mark.parametrize("method", METHODS)
def test_scales_do_not_depend_on_the_order_of_the_data(method: str) -> None:
    model, data = _model(), toy_data(32)
    turned = data.select(np.arange(len(data))[::-1])
    calibrate(model, data, _settings(method), batches=4, batch_size=8)
    forward = _scales(model)
    calibrate(model, turned, _settings(method), batches=4, batch_size=8)
    _assert_equal(forward, _scales(model))


@pytest.mark.parametrize("method", METHODS)
def test_which_examples_count_does_not_depend_on_the_order_of_the_data(method: str) -> None:
    model, data = _model(), toy_data(64)
    assert len(np.unique(data.lengths)) < len(data)  # some are equally long
    turned = data.select(np.arange(len(data))[::-1])
    calibrate(model, data, _settings(method), batches=1, batch_size=16)
    forward = _scales(model)
    calibrate(model, turned, _settings(method), batches=1, batch_size=16)
    _assert_equal(forward, _scales(model))


def test_no_padding_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, seen = _model(), toy_data(50), []
    original = EncodedDataset.batches

    def watched(self: EncodedDataset, size: int, **options: object) -> Iterator[Batch]:
        for batch in original(self, size, **options):  # type: ignore[arg-type]
            seen.append(batch)
            yield batch

    monkeypatch.setattr(EncodedDataset, "batches", watched)
    calibrate(model, data, batches=3, batch_size=10)
    assert all(batch.feeds["attention_mask"].all() for batch in seen)
    indices = np.concatenate([batch.indices for batch in seen])
    assert len(indices) == len(set(indices)) == 30
    lengths = data.lengths[indices]
    assert (lengths.min(), lengths.max()) == (data.lengths.min(), data.lengths.max())


def test_settings_stand_in_for_those_of_the_quantizers() -> None:
    model = _model(activations={"calibration": "percentile:50", "learned": False})
    calibrate(model, toy_data(16), batches=1, batch_size=16)
    own = _scales(model)
    calibrate(model, toy_data(16), _settings("max"), batches=1, batch_size=16)
    whole = _scales(model)
    name = "bert.embeddings.LayerNorm.output_quantizer.scale"
    assert own[name] < whole[name]


def test_calibration_counts_the_largest_magnitude_that_occurs() -> None:
    model, largest = _model(Placement.LINEAR), 0.0
    data = toy_data(8)
    calibrate(model, data, _settings("max"), batches=1, batch_size=8)
    query = compressed_linears(model)["bert.encoder.layer.0.attention.self.query"]
    assert query.input_quantizer is not None
    for index in range(8):
        feeds = data.padded([index], pad_to=None)
        with torch.no_grad():
            x = model.bert.embeddings(
                torch.from_numpy(feeds["input_ids"]), torch.from_numpy(feeds["token_type_ids"])
            )
        largest = max(largest, float(x.abs().max()))
    assert query.input_quantizer.scale.item() == pytest.approx(largest / 127, rel=1e-5)


def test_quantizers_that_are_off_are_calibrated_as_if_they_were_not() -> None:
    on, off = _model(), _model()
    set_quantizing(off, False)
    for model in (on, off):
        calibrate(model, toy_data(16), batches=1, batch_size=16)
    assert all(torch.equal(scale, _scales(off)[name]) for name, scale in _scales(on).items())
    dense = tiny_model()
    torch.testing.assert_close(logits_of(off, toy_batch()), logits_of(dense, toy_batch()))


def test_calibration_starts_learned_steps_anew() -> None:
    model = _model()
    learn_scales(model)
    calibrate(model, toy_data(16), batches=1, batch_size=16)
    learned = [m for m in model.modules() if getattr(m, "log_step", None) is not None]
    assert learned
    for module in learned:
        steps = module.log_step.exp().reshape(-1)
        torch.testing.assert_close(steps, module.scale.reshape(-1), rtol=1e-5, atol=0)


def test_dynamic_scales_need_no_run_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(Placement.LINEAR, activations={"mode": "dynamic", "learned": False})

    def ran(*_: object, **__: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "forward", ran)
        calibrate(model, toy_data(16), batches=1, batch_size=16)
    check_scales(model)
    assert logits_of(model, toy_batch()).isfinite().all()


def test_calibration_under_autocast_finds_nearly_the_same_scales() -> None:
    model = _model()
    calibrate(model, toy_data(16), batches=1, batch_size=16)
    exact = _scales(model)
    with torch.autocast("cpu", torch.bfloat16):
        calibrate(model, toy_data(16), batches=1, batch_size=16)
    for name, scale in _scales(model).items():
        torch.testing.assert_close(scale, exact[name], rtol=0.05, atol=0, msg=name)


@pytest.mark.parametrize(
    "poisoned",
    [
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.0.attention.self.key.weight",
        "bert.encoder.layer.0.output.LayerNorm.bias",
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("method", METHODS)
def test_calibration_refuses_weights_that_are_not_finite(
    poisoned: str, value: float, method: str
) -> None:
    model = _model()
    with torch.no_grad():
        model.get_parameter(poisoned).flatten()[:] = value
    with pytest.raises(InvalidScale) as caught:
        calibrate(model, toy_data(16), _settings(method), batches=1, batch_size=8)
    assert caught.value.expected == "positive finite scales"


def test_calibration_leaves_the_weights_alone_and_nothing_observing() -> None:
    model, dense = _model(), tiny_model()
    calibrate(model, toy_data(16), batches=1, batch_size=8)
    for name, parameter in dense.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)
    quantizers = [m for m in model.modules() if isinstance(m, ActivationQuantizer)]
    assert quantizers
    assert all(quantizer.histogram is None for quantizer in quantizers)
    assert not model.training


@pytest.mark.parametrize("method", METHODS)
def test_scales_are_those_of_the_weight_that_runs_under_a_mask(method: str) -> None:
    masked, pruned = (_model(default="2:4+int8", weights={"calibration": method}) for _ in range(2))
    for name, mask in magnitude_masks(compressed_linears(masked)).items():
        compressed_linears(masked)[name].straight_through_mask = mask
    project(pruned)
    for model in (masked, pruned):
        calibrate(model, toy_data(16), batches=1, batch_size=8)
    assert all(torch.equal(scale, _scales(pruned)[name]) for name, scale in _scales(masked).items())


def test_a_model_without_bits_has_nothing_to_calibrate() -> None:
    model = tiny_model()
    insert_quantizers(model, Recipe(default=Scheme.parse("2:4")))
    calibrate(model, toy_data(16), batches=1, batch_size=8)
    assert _scales(model) == {}
