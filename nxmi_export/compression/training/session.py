"""What one run has to do with the world: its processes, its snapshots and who listens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from accelerate import Accelerator
from transformers import PreTrainedModel

from nxmi_export.compression.progress import Progress, StageBegun
from nxmi_export.compression.training.batches import Share, check_examples
from nxmi_export.compression.training.fingerprint import Fingerprint, fingerprint
from nxmi_export.compression.training.options import RunOptions
from nxmi_export.compression.training.processes import (
    check_precision,
    failing_together,
    join_processes,
    share_weights,
    told_by_all,
)
from nxmi_export.compression.training.randomness import random_state
from nxmi_export.compression.training.snapshots import (
    drop_snapshot,
    keep_snapshot,
    read_snapshot,
    write_snapshot,
)
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import UsageError

__all__ = ["Evaluate", "Listeners", "Session"]

Evaluate = Callable[[PreTrainedModel], Mapping[str, float]]


@dataclass(frozen=True)
class Listeners:
    """Who hears of a run; all of them on the main process only.

    `evaluate` measures the model, in eval mode, at the end of every epoch.
    """

    evaluate: Evaluate | None
    on_progress: Callable[[Progress], None]


@dataclass(frozen=True)
class Session:
    """One run, in one of its processes."""

    options: RunOptions
    accelerator: Accelerator
    bound_to: Fingerprint
    listeners: Listeners

    @classmethod
    def open(
        cls,
        model: PreTrainedModel,
        data: EncodedDataset,
        recipe: Mapping[str, Any],
        options: RunOptions,
        listeners: Listeners,
    ) -> Self:
        """Join the other processes and move `model`, the same in all of them, to the device.

        Its weights become float32: half precision rounds away most of what a step moves them by.

        Raises DataError for data without examples, and UsageError for a launcher's settings that
        contradict the options or that accelerate does not follow.
        """
        check_examples(data)
        check_precision(options.precision)
        model.float()
        accelerator = join_processes()
        share_weights(model, accelerator)
        bound_to = (
            fingerprint(model, data, recipe, options, processes=accelerator.num_processes)
            if options.snapshots
            else {}
        )
        return cls(options, accelerator, bound_to, listeners)

    @property
    def share(self) -> Share:
        """This process's part of every batch."""
        accelerator = self.accelerator
        return Share(
            accelerator.process_index, accelerator.num_processes, self.options.accumulation
        )

    def tell(self, progress: Progress) -> None:
        """Report `progress`, from the main process."""
        if self.accelerator.is_main_process:
            self.listeners.on_progress(progress)

    def begin(self, stage: str) -> None:
        """Report that something begins that takes seconds."""
        self.tell(StageBegun(stage))

    def snapshot(self) -> dict[str, Any] | None:
        """The state to continue from; None where nothing is asked for or nothing is there.

        Raises UsageError for the snapshot of another run, and where the processes of several
        machines do not see the same file.
        """
        if not self.options.resume or self.options.snapshots is None:
            return None
        state = read_snapshot(self.options.snapshots, self.bound_to, adjusted=self.options.adjusted)
        steps = told_by_all(self.accelerator, state["step"] if state else None)
        if len(set(steps)) > 1:
            raise UsageError(
                self.options.snapshots,
                expected="one snapshot for all processes",
                found=f"snapshots after the steps {', '.join(map(str, steps))}",
                remedy="put the output on a file system that all machines share",
            )
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the snapshot, where the options name a folder for it.

        The generators' states are those of every process, by rank.
        """
        if self.options.snapshots is None:
            return
        random = told_by_all(self.accelerator, random_state(self.accelerator.device))
        with failing_together(self.accelerator):
            if self.accelerator.is_main_process:
                write_snapshot(self.options.snapshots, self.bound_to, {**state, "random": random})

    def keep(self) -> None:
        """The snapshot that was last saved or read is good: the one before it may go."""
        if self.options.snapshots is not None:
            with failing_together(self.accelerator):
                if self.accelerator.is_main_process:
                    keep_snapshot(self.options.snapshots)

    def drop(self) -> int | None:
        """That snapshot is no good: what was saved before takes its place; its steps, or None."""
        if self.options.snapshots is None:
            return None
        step = None
        with failing_together(self.accelerator):
            if self.accelerator.is_main_process:
                step = drop_snapshot(self.options.snapshots)
        found: int | None = told_by_all(self.accelerator, step)[0]
        return found
