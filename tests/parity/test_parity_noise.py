"""What summation order accounts for in logits, and drift that only an average shows."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from nxmi_export.parity.drift.excess import quantizer_excess
from nxmi_export.parity.drift.point import Kind, Point
from nxmi_export.parity.judge import Side, judge
from nxmi_export.parity.noise import LogitNoise, rounding_noise

WIDEST = 9216


def _model(largest: float) -> nn.Module:
    config = BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_labels=3
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.weight[1] = largest / 4  # of 16 inputs: a norm of `largest`
    return model


@pytest.mark.parametrize(("weights", "terms"), [(0.1, 1.0), (5.0, 5.0)])
def test_a_head_of_large_weights_has_the_noise_of_its_terms(weights: float, terms: float) -> None:
    noise = LogitNoise.of_model(_model(weights))
    assert noise == LogitNoise(2 * 3072, pytest.approx(terms))
    assert noise.of(np.array([0.01, -0.02, 0.0])) == pytest.approx(rounding_noise(2 * 3072, terms))


def test_logits_above_the_terms_have_the_noise_of_their_own_size() -> None:
    assert LogitNoise(64, 1.0).of(np.array([7.0, -9.0])) == pytest.approx(rounding_noise(64, 9.0))


def test_a_drift_of_the_average_alone_is_told_as_one() -> None:
    ratios = np.random.default_rng(0).normal(0, 20, (64, 256)).astype(np.float32)
    before, after = (
        Side(each, np.clip(np.rint(ratios), -128, 127).astype(np.int16))
        for each in (ratios, ratios * np.float32(1.00001))
    )
    assert judge("norm", before, after, WIDEST).objection is not None
    found = quantizer_excess(Point("norm", Kind.QUANTIZER), before, after, WIDEST)
    assert found.average
    assert found.times > 1
    assert found.error == pytest.approx(7.1e-06, rel=0.02)


def test_a_drift_of_one_value_is_told_by_that_value() -> None:
    ratios = np.random.default_rng(0).normal(0, 20, (64, 256)).astype(np.float32)
    moved = ratios.copy()
    moved[3, 11] += 0.1
    codes = np.clip(np.rint(ratios), -128, 127).astype(np.int16)
    point = Point("norm", Kind.QUANTIZER)
    found = quantizer_excess(point, Side(ratios, codes), Side(moved, codes), WIDEST)
    assert (found.position, found.average) == ((3, 11), False)
    assert found.error == pytest.approx(0.1, rel=1e-3)
