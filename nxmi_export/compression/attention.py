"""The eager attention of transformers with quantizers on what its two matmuls read.

Registered as the attention function "nxmi" next to transformers' own "eager" and "sdpa". The
attention module may hold `query_quantizer`, `key_quantizer`, `value_quantizer` and
`softmax_quantizer`. The first three are for encoders that rotate query and key behind their linear;
elsewhere query, key and value are quantized where they are made (the outputs of their linears).
The context is quantized where it is consumed (the input of the attention output linear).
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

__all__ = ["ATTENTION", "SOFTMAX_SCALE", "quantized_eager_attention"]

ATTENTION = "nxmi"
# Softmax outputs lie in 0…1, so this covers them exactly; it is also the scale that TensorRT's
# fused INT8 attention expects.
SOFTMAX_SCALE = 1 / 127


def quantized_eager_attention(
    module: nn.Module,
    query: Tensor,  # (batch, heads, sequence, head size)
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # additive, broadcastable to (batch, heads, sequence, sequence)
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(q·kᵀ·scaling + mask)·v, the same operations in the same order as "eager".

    Returns the context, (batch, sequence, heads, head size), and the attention weights as they are
    before dropout: these are what distillation compares. They are quantized before it, too, which
    changes nothing that runs without dropout: what it scales up would saturate at 1.
    """
    if scaling is None:
        scaling = query.size(-1) ** -0.5
    query = _quantized(module, "query", query)
    key = _quantized(module, "key", key)
    value = _quantized(module, "value", value)
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1)
    weights = _quantized(module, "softmax", weights)
    dropped = nn.functional.dropout(weights, p=dropout, training=module.training)
    context = torch.matmul(dropped, value).transpose(1, 2).contiguous()
    return context, weights


def _quantized(module: nn.Module, name: str, x: Tensor) -> Tensor:
    quantizer = getattr(module, f"{name}_quantizer", None)
    return x if quantizer is None else quantizer(x)


AttentionInterface.register(ATTENTION, quantized_eager_attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)
