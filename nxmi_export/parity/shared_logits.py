"""A runner in every process of a launch in, the logits of the whole dataset in all of them out."""

from collections.abc import Callable

import numpy as np
from accelerate import Accelerator

from nxmi_export.backends import Runner
from nxmi_export.compression.training.processes import failing_together, told_by_all
from nxmi_export.encoding import EncodedDataset
from nxmi_export.parity.logits import Float32Array, logits_of

__all__ = ["shared_logits"]


def shared_logits(
    runner: Runner,
    data: EncodedDataset,
    *,
    batch_tokens: int,
    accelerator: Accelerator,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Float32Array:
    """Logits (examples, outputs) in dataset order, each batch run by one of the processes.

    Batches are what they are for one process, and so are the logits, bit for bit where a runner
    computes on as many threads. `on_batch` gets the examples that this process has done and their
    total. Raises what `runner` raises in any of the processes, and DataError for logits of another
    width than the task's.
    """
    batches = data.bucketed(batch_tokens)
    # By turns: they go from long to short, so that all processes have some of each.
    own = batches[accelerator.process_index :: accelerator.num_processes]
    with failing_together(accelerator):
        logits = logits_of(runner, data, own, on_batch=on_batch)
    if accelerator.num_processes == 1:
        return logits
    rows = np.concatenate([np.zeros(0, np.int64), *own])
    for places, found in told_by_all(accelerator, (rows, logits[rows])):
        logits[places] = found
    return logits
