"""Linears that run several times in one forward pass, as ALBERT's do."""

from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression import RunOptions, compress, compressed_linears
from nxmi_export.compression.layers import weights_made_once
from nxmi_export.compression.quantizers import WeightQuantizer
from nxmi_export.compression.scales import learn_scales
from nxmi_export.recipe import Recipe, SparsitySettings, TrainingSettings
from tests.tiny_models import compressed_model, tiny_model, toy_batch, toy_data


@pytest.fixture
def quantized(monkeypatch: pytest.MonkeyPatch) -> list[WeightQuantizer]:
    """Every time that a weight was quantized, its quantizer."""
    calls: list[WeightQuantizer] = []
    forward = WeightQuantizer.forward

    def counted(self: WeightQuantizer, weight: Tensor) -> Tensor:
        calls.append(self)
        return forward(self, weight)

    monkeypatch.setattr(WeightQuantizer, "forward", counted)
    return calls


def _albert(learned: bool) -> PreTrainedModel:
    model = compressed_model(model_type="albert")
    if learned:
        learn_scales(model)
    model.train()
    return model


@pytest.mark.parametrize("learned", [True, False])
def test_a_weight_made_once_gives_the_logits_and_gradients_of_one_made_at_every_run(
    quantized: list[WeightQuantizer], learned: bool
) -> None:
    results: list[tuple[Tensor, dict[str, Tensor]]] = []
    counts = []
    for block in (nullcontext, weights_made_once):
        model = _albert(learned)
        quantized.clear()
        for _ in range(2):  # backward has freed the first graph, and gradients accumulate
            with block():
                logits = model(**toy_batch("albert")).logits
            logits.square().sum().backward()
        counts.append(len(quantized))
        gradients = {name: each.grad for name, each in model.named_parameters()}
        results.append(
            (logits, {name: each for name, each in gradients.items() if each is not None})
        )
    linears = len(compressed_linears(model))
    assert counts == [2 * 2 * linears, 2 * linears]  # two layers are one that runs twice
    (expected, wanted), (logits, found) = results
    assert torch.equal(logits, expected)
    assert found.keys() == wanted.keys()
    assert any("log_step" in name for name in found) is learned
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_outside_of_the_block_nothing_is_remembered() -> None:
    model = _albert(learned=False)
    linear = next(iter(compressed_linears(model).values()))
    x = torch.randn(3, linear.in_features)
    with weights_made_once():
        before = linear(x)
        with torch.no_grad():
            linear.weight.zero_()
        assert torch.equal(linear(x), before)  # the promise of the block: weights do not change
    assert not torch.equal(linear(x), before)
    with weights_made_once():
        assert not torch.equal(linear(x), before)


def test_a_block_in_a_block_is_a_part_of_it(quantized: list[WeightQuantizer]) -> None:
    linear = next(iter(compressed_linears(_albert(learned=False)).values()))
    quantized.clear()
    x = torch.randn(3, linear.in_features)
    with weights_made_once():
        for _ in range(2):
            with weights_made_once():
                linear(x)
        linear(x)
    assert len(quantized) == 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_block_that_fails_remembers_nothing() -> None:
    linear = next(iter(compressed_linears(_albert(learned=False)).values()))
    x = torch.randn(3, linear.in_features)
    before = linear(x)
    linear.register_forward_hook(_interrupt)
    with pytest.raises(KeyboardInterrupt), weights_made_once():
        linear(x)
    linear._forward_hooks.clear()
    with torch.no_grad():
        linear.weight.zero_()
    assert not torch.equal(linear(x), before)


@pytest.mark.parametrize("method", ["admm", "sr-ste"])
def test_training_albert_makes_every_weight_once_a_forward_pass(
    quantized: list[WeightQuantizer], method: Any
) -> None:
    model = tiny_model("albert")
    recipe = Recipe(
        sparsity=SparsitySettings(method=method, initial="magnitude"),
        training=TrainingSettings(epochs=1, batch_size=8),
    )
    counts: list[int] = []
    compress(
        model,
        toy_data(32, model_type="albert"),
        recipe,
        RunOptions(accumulation=2),
        on_progress=lambda _: counts.append(len(quantized)),
    )
    # Between the reports of two steps that nothing else lies between: two micro-batches.
    between = [second - first for first, second in pairwise(counts)]
    assert 2 * len(compressed_linears(model)) in between
