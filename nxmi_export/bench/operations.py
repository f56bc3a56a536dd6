"""A model and a shape of batch in, how many operations one forward pass takes out."""

import numpy as np
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.bench.batches import batch_for
from nxmi_export.bench.limits import Operations
from nxmi_export.latency import Workload

__all__ = ["operations"]

_WITHOUT_WEIGHT = ("aten.baddbmm", "aten.bmm")  # products of two activations


def operations(
    model: PreTrainedModel, input_names: tuple[str, ...], workload: Workload
) -> Operations:
    """Count those of one example as `model` runs it, and multiply by the batch.

    Its attention must be "eager": what transformers chooses by itself multiplies inside an operator
    that the counter misses.
    """
    vocabulary, rng = int(model.config.vocab_size), np.random.default_rng(0)
    one = Workload(1, workload.sequence)
    feeds = batch_for(one, input_names, vocabulary=vocabulary, rng=rng)
    with FlopCounterMode(display=False) as counter:
        TorchRunner(model, input_names).run(feeds)
    counted = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    attention = sum(counted.get(name, 0) for name in _WITHOUT_WEIGHT)
    linears = sum(counted.values()) - attention
    return Operations(workload.batch * linears, workload.batch * attention)
