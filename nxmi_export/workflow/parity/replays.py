"""A dev split that was run in, what forced replay says of its examples, rung by rung, out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from nxmi_export.compression.training.processes import failing_together, told_by_all
from nxmi_export.parity import Comparison, Explanation, Stage, compare, explain, replay_sample
from nxmi_export.workflow.parity.climb import Climbed
from nxmi_export.workflow.parity.ladder import NAMES, Ladder

__all__ = ["Replays", "replays"]


@dataclass(frozen=True)
class Replays:
    """What is known of the examples of one rung."""

    found: Mapping[int, Explanation]
    sampled: tuple[int, ...]  # of them: those taken for their logits, changed or not

    def of_changes(self, comparison: Comparison) -> tuple[Explanation, ...]:
        """One for each changed example."""
        return tuple(self.found[change.index] for change in comparison.changes)

    def of_others(self, comparison: Comparison) -> tuple[Explanation, ...]:
        """One for each sampled example whose prediction has not changed."""
        changed = {change.index for change in comparison.changes}
        return tuple(self.found[index] for index in self.sampled if index not in changed)


def replays(ladder: Ladder, climbed: Climbed, accelerator: Accelerator) -> Mapping[Stage, Replays]:
    """Replay every changed example of each rung that shows its codes, and a few others.

    Of probes all are replayed. Every process has the result. What kernels change counts as a change
    of both their rungs.
    """
    rungs, count = climbed.rungs, ladder.request.replay_examples
    compressed, kernels = rungs[Stage.COMPRESSED], _kernel_changes(climbed)
    result = {}
    for stage in ladder.observable:
        changes = {change.index for change in compare(compressed, rungs[stage]).changes}
        if stage in (Stage.WRITTEN, Stage.OPTIMIZED):
            changes |= kernels
        sampled = (
            tuple(range(len(climbed.data)))
            if climbed.made_up
            else replay_sample(compressed, rungs[stage], count, seed=ladder.request.gate.terms.seed)
        )
        indices = np.array(sorted(changes | set(sampled)), dtype=np.int64)
        result[stage] = Replays(_explained(ladder, climbed, stage, indices, accelerator), sampled)
    return result


def _kernel_changes(climbed: Climbed) -> set[int]:
    written, optimized = climbed.rungs[Stage.WRITTEN], climbed.rungs[Stage.OPTIMIZED]
    return {change.index for change in compare(written, optimized).changes}


def _explained(
    ladder: Ladder,
    climbed: Climbed,
    stage: Stage,
    indices: NDArray[np.int64],
    accelerator: Accelerator,
) -> dict[int, Explanation]:
    """An example runs again in the batch that it was in, and so the processes share the batches."""
    rung = climbed.rungs[stage]
    batch_of = np.empty(len(climbed.data), np.int64)
    for number, together in enumerate(climbed.data.bucketed(rung.batch_tokens)):
        batch_of[together] = number
    _, turns = np.unique(batch_of[indices], return_inverse=True)
    own = indices[turns % accelerator.num_processes == accelerator.process_index]
    with failing_together(accelerator):
        found = explain(
            ladder.observed(stage, climbed.rungs),
            climbed.data,
            own.tolist(),
            on_example=partial(climbed.on_progress, f"replaying, {NAMES[stage]}"),
        )
    told = told_by_all(accelerator, found)
    return {each.index: each for explanations in told for each in explanations}
