"""A model with quantizers and examples in, every scale fitted out."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.quantizers import ActivationQuantizer, WeightQuantizer
from nxmi_export.compression.restore import check_scales
from nxmi_export.compression.tables import fit_tables
from nxmi_export.encoding import EncodedDataset, Feeds
from nxmi_export.recipe import ActivationSettings

__all__ = ["calibrate", "calibrate_activations", "running_weight"]


def calibrate(
    model: PreTrainedModel,
    data: EncodedDataset,
    settings: ActivationSettings | None = None,
    *,
    batches: int | None = None,
    batch_size: int = 32,
) -> None:
    """Fit every scale, those of activations over `batches` · `batch_size` examples of all lengths.

    `settings` stand in for those the quantizers were made with; `batches` for their number. Only
    texts of equal length run together, so no padding is counted and the counts are those of the
    examples, however they are batched. Quantizers that were switched off stay off, and are
    calibrated as if they were not.

    Leaves the model in eval mode. Raises InvalidScale where a value of the network is not finite.
    """
    for linear in compressed_linears(model).values():
        if linear.weight_quantizer is not None:
            linear.weight_quantizer.fit(running_weight(linear))
    fit_tables(model)
    calibrate_activations(model, data, settings, batches=batches, batch_size=batch_size)
    check_scales(model)


def calibrate_activations(
    model: PreTrainedModel,
    data: EncodedDataset,
    settings: ActivationSettings | None = None,
    *,
    batches: int | None = None,
    batch_size: int = 32,
) -> None:
    """As `calibrate`, of the activations alone and under the weight scales that there are."""
    model.eval()
    quantizers = [m for m in model.modules() if isinstance(m, ActivationQuantizer)]
    observed = [quantizer for quantizer in quantizers if quantizer.observe()]
    if observed:
        count = (batches or (settings or observed[0].settings).calibration_batches) * batch_size
        with _quantizing(model), torch.inference_mode():
            for batch in _batches(data, count, batch_size):
                model(**{name: torch.from_numpy(x).to(model.device) for name, x in batch.items()})
    for quantizer in observed:
        quantizer.calibrate(settings.calibration if settings else None)


def running_weight(linear: CompressedLinear) -> Tensor:
    """The weight (out, in) that the forward pass quantizes: of SR-STE's linears, the pruned one."""
    mask = linear.straight_through_mask
    return linear.weight if mask is None else linear.weight * mask


def _batches(data: EncodedDataset, count: int, batch_size: int) -> Iterator[Feeds]:
    """`count` examples, evenly over the order of their lengths, batched with their equals."""
    chosen = data.spread(count)
    cuts = np.flatnonzero(np.diff(data.lengths[chosen])) + 1
    for equals in np.split(chosen, cuts):
        for batch in data.batches(batch_size, order=equals):
            yield batch.feeds


@contextmanager
def _quantizing(model: nn.Module) -> Iterator[None]:
    """Switch all quantizers on, and those that were off back off in the end."""
    kinds = (ActivationQuantizer, WeightQuantizer)
    off = [m for m in model.modules() if isinstance(m, kinds) and not m.enabled]
    for quantizer in off:
        quantizer.enabled = True
    try:
        yield
    finally:
        for quantizer in off:
            quantizer.enabled = False
