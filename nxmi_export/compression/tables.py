"""The embedding tables of an encoder in, the same tables stored as INT8 out.

Only rows that are looked up are ever rounded: rounding and looking up commute, and a vocabulary has
thousands of rows of which a batch needs dozens.
"""

from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.quantizers import WeightQuantizer
from nxmi_export.fake_quantize import fake_quantize
from nxmi_export.recipe import WeightSettings

__all__ = ["QuantizedEmbedding", "fit_tables", "quantize_tables", "quantized_tables"]

_BITS = 8


class QuantizedEmbedding(nn.Embedding):
    """A table (rows, width) that stays the trained floats and runs as its fake quantization.

    Scales belong to rows, as those of a linear to its output rows. They follow the weights and are
    never learned: a row that no batch holds would get no gradient, and go on by Adam's moments.
    """

    weight_quantizer: WeightQuantizer

    @classmethod
    def of(cls, table: nn.Embedding, settings: WeightSettings) -> Self:
        """The same table, its parameter shared with `table`, under a quantizer."""
        quantized = cls.__new__(cls)
        nn.Module.__init__(quantized)
        quantized.num_embeddings = table.num_embeddings
        quantized.embedding_dim = table.embedding_dim
        quantized.padding_idx = table.padding_idx
        quantized.max_norm = table.max_norm
        quantized.norm_type = table.norm_type
        quantized.scale_grad_by_freq = table.scale_grad_by_freq
        quantized.sparse = table.sparse
        quantized.weight = table.weight
        fixed = settings.model_copy(update={"learned": False})
        quantized.weight_quantizer = WeightQuantizer(table.num_embeddings, _BITS, fixed)
        return quantized

    def forward(self, input: Tensor) -> Tensor:
        """The quantized rows of the indices `input`, (…) to (…, width)."""
        quantizer = self.weight_quantizer
        if torch.compiler.is_exporting():
            # The graph gets the rounded table, which passes fold into stored integers.
            rounded = fake_quantize(self.weight, quantizer.scale, quantizer.limits, axis=0)
            return nn.functional.embedding(input, rounded, self.padding_idx)
        if self.training and self.weight.requires_grad:
            quantizer.refit(self.weight)
        rows = super().forward(input)
        if not quantizer.enabled:
            return rows
        steps = quantizer.scale[input].reshape(-1)
        flat = rows.reshape(-1, self.embedding_dim)
        return fake_quantize(flat, steps, quantizer.limits, axis=0).reshape(rows.shape)

    def codes(self) -> Tensor:
        """The stored integers, int8 of shape (rows, width)."""
        return self.weight_quantizer.codes(self.weight)


def quantize_tables(model: PreTrainedModel, settings: WeightSettings) -> None:
    """Edit every embedding table of `model` in place; scales are NaN until fitted or loaded."""
    tables = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Embedding)]
    for name, table in tables:
        quantized = QuantizedEmbedding.of(table, settings)
        quantized.train(table.training)
        model.set_submodule(name, quantized)


def quantized_tables(model: nn.Module) -> dict[str, QuantizedEmbedding]:
    """The quantized tables of `model` by module name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedEmbedding)
    }


def fit_tables(model: nn.Module) -> None:
    """Fit the scales of every quantized table by its settings' calibration."""
    for table in quantized_tables(model).values():
        table.weight_quantizer.fit(table.weight)
