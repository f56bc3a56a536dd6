"""A configuration and a shape of batch in, how many operations one forward pass takes out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.bench.batches import batch_for
from nxmi_export.bench.dense_model import dense_model
from nxmi_export.bench.limits import Operations
from nxmi_export.latency import Workload

__all__ = ["operations"]

_WITHOUT_WEIGHT = ("aten.baddbmm", "aten.bmm")  # products of two activations


def operations(
    architecture: str, config: Mapping[str, Any], input_names: tuple[str, ...], workload: Workload
) -> Operations:
    """Count those of one example as it runs, and multiply by the batch."""
    # What transformers chooses by itself multiplies inside an operator that the counter misses.
    model = dense_model(architecture, config, attention="eager")
    feeds = batch_for(
        Workload(1, workload.sequence),
        input_names,
        vocabulary=int(config["vocab_size"]),
        rng=np.random.default_rng(0),
    )
    with FlopCounterMode(display=False) as counter:
        TorchRunner(model, input_names).run(feeds)
    counted = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    attention = sum(counted.get(name, 0) for name in _WITHOUT_WEIGHT)
    linears = sum(counted.values()) - attention
    return Operations(workload.batch * linears, workload.batch * attention)
