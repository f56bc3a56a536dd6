import pytest
import torch
from torch import Tensor, nn

from nxmi_export.compression.attention import SOFTMAX_SCALE, quantized_eager_attention
from nxmi_export.compression.quantizers import ActivationQuantizer


def _attention(dropout: float, *, quantized: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 5, 8, generator=generator)
    module = nn.Module()
    if quantized:
        module.softmax_quantizer = ActivationQuantizer(SOFTMAX_SCALE)
    torch.manual_seed(0)
    return quantized_eager_attention(module, query, key, value, None, dropout=dropout)


@pytest.mark.parametrize("quantized", [False, True])
def test_probabilities_are_told_as_they_are_before_dropout(quantized: bool) -> None:
    context, probabilities = _attention(0.5, quantized=quantized)
    whole, expected = _attention(0.0, quantized=quantized)
    assert torch.equal(probabilities, expected)
    assert not torch.equal(context, whole)


def test_told_probabilities_are_the_quantized_ones() -> None:
    _, exact = _attention(0.5, quantized=False)
    _, probabilities = _attention(0.5, quantized=True)
    torch.testing.assert_close(exact.sum(-1), torch.ones(2, 2, 5))
    torch.testing.assert_close(probabilities, (exact * 127).round() / 127)


def test_dropout_saturates_nothing() -> None:
    """Scaled up behind the quantizer, certain probabilities keep their mean."""
    module = nn.Module()
    module.softmax_quantizer = ActivationQuantizer(SOFTMAX_SCALE)
    lonely = torch.ones(1, 1, 1, 1).expand(4096, 1, 1, 1)  # one key has all the attention
    torch.manual_seed(0)
    context, _ = quantized_eager_attention(module, lonely, lonely, lonely, None, dropout=0.5)
    assert context.unique().tolist() == [0.0, 2.0]
