from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.calibrate import calibrate
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.compression.reconstruction import LinearReconstructed, reconstructed_weights
from nxmi_export.compression.reconstruction.stages import stages_of
from nxmi_export.compression.restore import check_patterns
from nxmi_export.compression.sparsity import magnitude_masks
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import CheckpointError, InvalidDataset, UnsupportedModel
from nxmi_export.recipe import Recipe, Scheme
from tests.tiny_models import logits_of, tiny_config, tiny_model, toy_batch, toy_data

BLOCK = "bert.encoder.layer"
PARTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


def _model(scheme: str, *, model_type: str = "bert", **recipe: object) -> PreTrainedModel:
    model = tiny_model(model_type)
    mapping = {"default": scheme} | recipe
    insert_quantizers(model, Recipe.from_mapping(mapping, source="test"))
    return model


def _reconstruct(
    model: PreTrainedModel, data: EncodedDataset | None = None
) -> tuple[dict[str, Tensor], list[LinearReconstructed]]:
    done: list[LinearReconstructed] = []
    data = data or toy_data(96)
    weights = reconstructed_weights(model, data, batches=4, batch_size=24, on_linear=done.append)
    return weights, done


def _write(model: PreTrainedModel, weights: dict[str, Tensor]) -> None:
    linears = compressed_linears(model)
    with torch.no_grad():
        for name, weight in weights.items():
            linears[name].weight.copy_(weight)


@contextmanager
def _inputs_of(linear: nn.Module) -> Iterator[list[Tensor]]:
    inputs: list[Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    yield inputs
    hook.remove()


@pytest.mark.parametrize(
    ("model_type", "scheme"),
    [
        *(("bert", scheme) for scheme in ("2:4", "2:4+int8", "1:4", "4:8+int4", "8:16", "int4")),
        ("distilbert", "2:4+int4"),
    ],
)
def test_every_layer_is_on_its_pattern_and_better_than_magnitude(
    model_type: str, scheme: str
) -> None:
    model = _model(scheme, model_type=model_type)
    data = toy_data(96, model_type=model_type)
    weights, done = _reconstruct(model, data)
    assert list(weights) == list(compressed_linears(model))
    assert [event.number for event in done] == list(range(1, 13))
    assert {event.total for event in done} == {12}
    for event in done:
        assert 0 < event.error < event.magnitude_error
    _write(model, weights)
    check_patterns(model)


@pytest.mark.parametrize("scheme", ["2:4", "2:4+int4"])
def test_reported_errors_are_those_of_the_outputs_behind_compressed_layers(scheme: str) -> None:
    """An independent measurement: every layer's inputs in the fully compressed model."""
    model, data = _model(scheme, placement="linear"), toy_data(96)
    weights, done = _reconstruct(model, data)
    dense = {name: m.weight.detach().clone() for name, m in compressed_linears(model).items()}
    _write(model, weights)
    for quantizer in model.modules():
        if isinstance(quantizer, ActivationQuantizer | WeightQuantizer):
            quantizer.enabled = False
    for event in done:
        lost = whole = 0.0
        with _inputs_of(model.get_submodule(event.name)) as inputs, torch.inference_mode():
            for index in range(len(data)):  # alone, so without padding
                feeds = data.padded([index], None)
                model(**{name: torch.from_numpy(x) for name, x in feeds.items()})
        for x in inputs:
            output, other = (x @ w.T for w in (dense[event.name], weights[event.name]))
            lost += float(((output - other) ** 2).sum())
            whole += float((output**2).sum())
        assert event.error == pytest.approx(lost / whole, rel=1e-3)


def test_the_model_keeps_more_of_its_logits_than_under_magnitude() -> None:
    feeds = toy_batch(count=16)
    dense = logits_of(tiny_model(), feeds)

    def drift(weights: dict[str, Tensor]) -> float:
        model = _model("2:4")
        _write(model, weights)
        return float((logits_of(model, feeds) - dense).square().mean())

    linears = compressed_linears(_model("2:4"))
    magnitude = {n: linears[n].weight * mask for n, mask in magnitude_masks(linears).items()}
    assert drift(_reconstruct(_model("2:4"))[0]) < 0.7 * drift(magnitude)


def test_equal_runs_give_equal_weights() -> None:
    first, second = (_reconstruct(_model("2:4+int4"))[0] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


class _Stop(Exception):
    pass


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_model_is_left_as_it_was(interrupted: bool) -> None:
    model = _model("2:4+int8")
    model.train()
    model.dropout.eval()
    quantizers = [m for m in model.modules() if isinstance(m, ActivationQuantizer)]
    quantizers[0].enabled = False
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = {name: id(value) for name, value in model.named_parameters()}
    modes = [module.training for module in model.modules()]

    def stop(done: LinearReconstructed) -> None:
        if interrupted and done.number == 9:  # inside the second block
            raise _Stop

    try:
        reconstructed_weights(model, toy_data(), batches=2, batch_size=8, on_linear=stop)
    except _Stop:
        assert interrupted
    after = model.state_dict()
    # NaN scales of uncalibrated quantizers equal themselves here
    assert all(torch.equal(before[n].nan_to_num(7.0), after[n].nan_to_num(7.0)) for n in before)
    assert {name: id(value) for name, value in model.named_parameters()} == parameters
    assert [module.training for module in model.modules()] == modes
    assert [quantizer.enabled for quantizer in quantizers] == [False] + [True] * (
        len(quantizers) - 1
    )
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(value.grad is None for value in model.parameters())


def test_int4_scales_are_held_and_give_back_the_rounded_weights() -> None:
    model = _model("2:4+int4")
    weights, _ = _reconstruct(model)
    _write(model, weights)
    calibrate(model, toy_data(), batches=2, batch_size=8)  # which fits every scale that is free
    for name, linear in compressed_linears(model).items():
        assert linear.weight_quantizer is not None
        stored = linear.codes() * linear.weight_quantizer.scale[:, None]
        torch.testing.assert_close(stored, weights[name], atol=0, rtol=1e-6)


def test_scales_are_not_held_where_only_the_pattern_is_reconstructed() -> None:
    model = _model("2:4+int8")
    _reconstruct(model)
    for linear in compressed_linears(model).values():
        assert linear.weight_quantizer is not None
        assert linear.weight_quantizer.scale.isnan().all()


def test_the_grid_has_the_granularity_of_the_recipe() -> None:
    model = _model("int4", weights={"int4_granularity": "rows:8", "calibration": "mse"})
    _reconstruct(model)
    for linear in compressed_linears(model).values():
        assert linear.weight_quantizer is not None
        groups = linear.weight_quantizer.scale.reshape(-1, 8)
        assert torch.equal(groups, groups[:, :1].expand(-1, 8))
        assert len(groups[:, 0].unique()) == len(groups)


def test_layers_without_pattern_or_int4_are_left_out() -> None:
    model = _model("int8", overrides={"*.0.intermediate.dense": "2:4", "*.1.output.dense": "int4"})
    weights, _ = _reconstruct(model)
    assert list(weights) == [f"{BLOCK}.0.intermediate.dense", f"{BLOCK}.1.output.dense"]


def test_a_model_with_nothing_to_reconstruct_is_not_run() -> None:
    nothing = toy_data().select(np.array([], np.int64))
    assert reconstructed_weights(_model("int8"), nothing, batches=1, batch_size=8) == {}


def test_query_key_and_value_share_one_gram_matrix() -> None:
    model = _model("2:4")
    stages = stages_of(model, compressed_linears(model), toy_batch(count=1))
    expected = []
    for block in (f"{BLOCK}.0", f"{BLOCK}.1"):
        names = [f"{block}.{part}" for part in PARTS]
        groups = (tuple(names[:3]), *((name,) for name in names[3:]))
        expected += [(group, 1, block) for group in groups]
    assert [(stage.linears, stage.calls, stage.block) for stage in stages] == expected


def test_a_linear_that_serves_several_blocks_is_fitted_to_all_its_calls() -> None:
    torch.manual_seed(0)
    config = transformers.AlbertConfig(
        **tiny_config().to_diff_dict()
        | {"model_type": "albert", "embedding_size": 16, "num_hidden_layers": 3}
        | {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 96}
        | {"initializer_range": 0.2, "max_position_embeddings": 64}
    )
    model = transformers.AlbertForSequenceClassification(config).eval()
    name = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output"
    linear = CompressedLinear(model.get_submodule(name), Scheme.parse("2:4"))
    model.set_submodule(name, linear)
    (stage,) = stages_of(model, {name: linear}, toy_batch(count=1))
    assert stage.calls == 3
    dense = linear.weight.detach().clone()
    weights, (event,) = _reconstruct(model)
    assert event.error < event.magnitude_error

    # Its inputs depend on its own weight from the second call on; they were seen while dense.
    data, lost, whole = toy_data(96), 0.0, 0.0
    with _inputs_of(linear) as inputs, torch.inference_mode():
        for index in range(len(data)):
            feeds = data.padded([index], None)
            model(**{key: torch.from_numpy(x) for key, x in feeds.items()})
    assert len(inputs) == 3 * len(data)
    for x in inputs:
        lost += float(((x @ (dense - weights[name]).T) ** 2).sum())
        whole += float(((x @ dense.T) ** 2).sum())
    assert event.error == pytest.approx(lost / whole, rel=1e-3)


def test_under_autocast_layers_see_the_compressed_layers_before_them() -> None:
    data = toy_data(96)
    _, expected = _reconstruct(_model("2:4"), data)
    with torch.autocast("cpu", torch.bfloat16):
        weights, done = _reconstruct(_model("2:4"), data)
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    for low, full in zip(done, expected, strict=True):
        assert low.error < low.magnitude_error
        assert low.error == pytest.approx(full.error, rel=0.1)
        assert low.magnitude_error == pytest.approx(full.magnitude_error, rel=0.1)


def test_no_examples_are_refused() -> None:
    nothing = toy_data().select(np.array([], np.int64))
    with pytest.raises(InvalidDataset) as error:
        reconstructed_weights(_model("2:4"), nothing, batches=1, batch_size=8)
    assert str(error.value) == (
        "reconstruction: expected calibration examples, found none; give it a dataset with rows"
    )


def test_a_diverged_model_is_refused_by_its_first_bad_layer() -> None:
    model = _model("2:4")
    with torch.no_grad():
        model.get_submodule(f"{BLOCK}.0.attention.output.LayerNorm").weight[3] = torch.nan
    with pytest.raises(CheckpointError) as error:
        _reconstruct(model)
    assert str(error.value) == (
        f"{BLOCK}.0.intermediate.dense: expected finite inputs on the calibration data, "
        "found NaN or infinity; start from weights of a training run that did not diverge"
    )


def test_a_linear_that_never_runs_is_refused() -> None:
    model = tiny_model()
    spare = nn.Linear(8, 8)
    with pytest.raises(UnsupportedModel) as error:
        stages_of(model, {"classifier": model.classifier, "spare": spare}, toy_batch(count=1))
    assert not model.classifier._forward_pre_hooks
    assert str(error.value) == (
        "spare: expected a linear that runs in every forward pass, found no call on the "
        "calibration data; give the layer the scheme dense under overrides in the recipe"
    )
