"""A dev split that was run in, where each changed prediction comes from out."""

from functools import partial

import numpy as np
from accelerate import Accelerator

from nxmi_export.artefact import MODEL
from nxmi_export.compression.training.processes import failing_together, told_by_all
from nxmi_export.parity import Explanation, Observed, Stage, compare, explain
from nxmi_export.workflow.parity.climb import Climbed
from nxmi_export.workflow.parity.ladder import Ladder

__all__ = ["explained_changes"]


def explained_changes(
    ladder: Ladder, climbed: Climbed, accelerator: Accelerator
) -> tuple[Explanation, ...]:
    """One for each prediction that ONNX as written changed, in dataset order, in every process.

    An example runs again in the batch that it was in, and so the processes share the batches.
    """
    compressed, written = climbed.rungs[Stage.COMPRESSED], climbed.rungs[Stage.WRITTEN]
    changed = np.array(
        [change.index for change in compare(compressed, written).changes], dtype=np.int64
    )
    observed = Observed(
        ladder.model,
        ladder.artefact.path(MODEL),
        compressed,
        written,
        threads=ladder.threads,
        label_order=ladder.orders[climbed.data.dataset.task.name][Stage.COMPRESSED],
    )
    batch_of = np.empty(len(climbed.data), np.int64)
    for number, indices in enumerate(climbed.data.bucketed(written.batch_tokens)):
        batch_of[indices] = number
    _, turns = np.unique(batch_of[changed], return_inverse=True)
    own = changed[turns % accelerator.num_processes == accelerator.process_index]
    with failing_together(accelerator):
        found = explain(
            observed,
            climbed.data,
            own.tolist(),
            on_example=partial(climbed.on_progress, "explaining changes"),
        )
    told = told_by_all(accelerator, found)
    by_index = {each.index: each for explanations in told for each in explanations}
    return tuple(by_index[index] for index in changed.tolist())
