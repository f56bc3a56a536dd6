"""The quantizers of a model during training: when they begin, and how a measurement sees them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.calibrate import (
    calibrate,
    calibrate_activations,
    running_weight,
)
from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.quantizers import WeightQuantizer
from nxmi_export.compression.scales import learn_scales, scale_parameters, set_quantizing
from nxmi_export.compression.tables import quantized_tables
from nxmi_export.encoding import EncodedDataset

__all__ = ["as_deployed", "begin_quantizing", "hand_over", "train_scales"]


def begin_quantizing(model: PreTrainedModel, data: EncodedDataset) -> None:
    """Fit every scale to the model as it is now, and let all quantizers round.

    Leaves the model in eval mode, as do all who calibrate.
    """
    set_quantizing(model, True)
    calibrate(model, data)


def hand_over(model: PreTrainedModel, data: EncodedDataset) -> None:
    """Fit scales to the weights that a projection has just changed; learned steps begin anew there.

    Those are the steps of weights that have a pattern and, as their inputs come through such
    weights, the static scales of all activations.
    """
    for linear, quantizer in _weight_quantizers(model):
        if linear.scheme.pattern is not None:
            quantizer.fit(running_weight(linear))
    calibrate_activations(model, data)


def train_scales(model: PreTrainedModel) -> list[nn.Parameter]:
    """Make parameters of the scales that are learned and return them; the others follow weights.

    A scale held by reconstruction is where learning starts; the grid itself has no further use,
    since the weights are about to leave it.
    """
    learn_scales(model)
    for linear, quantizer in _weight_quantizers(model):
        if quantizer.held:
            quantizer.release()
            if quantizer.log_step is None:
                quantizer.fit(running_weight(linear))
    return scale_parameters(model)


@contextmanager
def as_deployed(model: PreTrainedModel, *, projected: bool = False) -> Iterator[None]:
    """The model in eval mode with every scale as if training ended now; afterwards as before.

    A scale that follows its weight was last set before the optimizer's step. Of weights that are
    `projected` for the time of the block, scales are those of `hand_over`.
    """
    training = model.training
    model.eval()
    tables = quantized_tables(model).values()
    quantizers = [quantizer for _, quantizer in _weight_quantizers(model)]
    before = [
        (tensor, tensor.detach().clone())
        for quantizer in (*quantizers, *(table.weight_quantizer for table in tables))
        for tensor in (*quantizer.buffers(), *quantizer.parameters())
    ]
    for linear, quantizer in _weight_quantizers(model):
        if quantizer.enabled:
            _refit(linear, quantizer, projected)
    for table in tables:
        if table.weight_quantizer.enabled:
            table.weight_quantizer.refit(table.weight)
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        model.train(training)


def _refit(linear: CompressedLinear, quantizer: WeightQuantizer, projected: bool) -> None:
    if projected and linear.scheme.pattern is not None:
        quantizer.fit(running_weight(linear))
    elif quantizer.log_step is None:
        quantizer.refit(running_weight(linear))


def _weight_quantizers(
    model: PreTrainedModel,
) -> Iterator[tuple[CompressedLinear, WeightQuantizer]]:
    for linear in compressed_linears(model).values():
        if linear.weight_quantizer is not None:
            yield linear, linear.weight_quantizer
