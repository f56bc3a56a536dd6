"""The quantizers of a model during training: when they begin, and how a measurement sees them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.calibrate import calibrate
from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.quantizers import WeightQuantizer
from nxmi_export.compression.scales import learn_scales, scale_parameters, set_quantizing
from nxmi_export.encoding import EncodedDataset

__all__ = ["as_deployed", "begin_quantizing", "train_scales"]


def begin_quantizing(model: PreTrainedModel, data: EncodedDataset) -> None:
    """Fit every scale to the model as it is now, and let all quantizers round."""
    set_quantizing(model, True)
    calibrate(model, data)


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
                quantizer.fit(linear)
    return scale_parameters(model)


@contextmanager
def as_deployed(model: PreTrainedModel) -> Iterator[None]:
    """The model in eval mode with every scale as if training ended now; afterwards as before.

    A scale that follows its weight was last set before the optimizer's step.
    """
    training = model.training
    model.eval()
    before = [(each, each.scale.clone()) for _, each in _weight_quantizers(model)]
    for weight, quantizer in _weight_quantizers(model):
        if quantizer.enabled and quantizer.log_step is None:
            quantizer.refit(weight)
    try:
        yield
    finally:
        with torch.no_grad():
            for quantizer, scale in before:
                quantizer.scale.copy_(scale)
        model.train(training)


def _weight_quantizers(model: PreTrainedModel) -> Iterator[tuple[torch.Tensor, WeightQuantizer]]:
    for linear in compressed_linears(model).values():
        if linear.weight_quantizer is not None:
            yield linear.weight, linear.weight_quantizer
