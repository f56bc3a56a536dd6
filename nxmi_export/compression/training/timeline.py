"""When things happen in a training run, counted in optimizer steps: `Timeline`."""

import math
from dataclasses import dataclass
from typing import Self

from nxmi_export.recipe import SparsitySettings, TrainingSettings

__all__ = ["Timeline"]


@dataclass(frozen=True)
class Timeline:
    """The steps of a run, numbered from 1, and what happens between them.

    Events are placed by the number of steps completed before them, 0 meaning before the first.
    """

    epochs: int
    steps_per_epoch: int
    warmup: int  # steps
    cooldown: int  # steps
    quantize_at: int | None = None  # None: nothing is quantized
    project_at: int | None = None  # None: nothing is projected by training
    updates_per_epoch: int = 0  # of ADMM's Z and U

    @classmethod
    def of(
        cls,
        examples: int,
        training: TrainingSettings,
        sparsity: SparsitySettings | None = None,
        *,
        quantizes: bool = False,
    ) -> Self:
        """Lay out `training` over `examples`; `sparsity` is None where nothing has a pattern."""
        steps_per_epoch = math.ceil(examples / training.batch_size)
        total = training.epochs * steps_per_epoch
        # A magnitude mask is there from the start.
        projects = sparsity is not None and sparsity.method != "magnitude"
        return cls(
            epochs=training.epochs,
            steps_per_epoch=steps_per_epoch,
            warmup=int(training.warmup * total),
            cooldown=int(training.cooldown * total),
            quantize_at=round(training.quantize_after * total) if quantizes else None,
            project_at=total - int(sparsity.recovery * total) if sparsity and projects else None,
            updates_per_epoch=sparsity.updates_per_epoch if sparsity and projects else 0,
        )

    @property
    def total(self) -> int:
        """All optimizer steps."""
        return self.epochs * self.steps_per_epoch

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that step `step` belongs to."""
        return (step - 1) // self.steps_per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        """Whether step `step` is the last of its epoch."""
        return step % self.steps_per_epoch == 0

    def rate(self, step: int) -> float:
        """The share of the peak learning rate at `step`: warmup-stable-decay.

        It rises over the warm-up, holds, and falls linearly over the cool-down, or what the warm-up
        leaves of it. Neither the first nor the last step has a rate of 0, so none is wasted.
        """
        if step <= self.warmup:
            return step / self.warmup
        falls_after = max(self.warmup, self.total - self.cooldown)
        left = self.total - step + 1
        return min(1.0, left / (self.total - falls_after)) if falls_after < self.total else 1.0

    def quantizes_before(self, completed: int) -> bool:
        """Whether quantizers began before the last of `completed` steps."""
        return self.quantize_at is not None and self.quantize_at < completed

    def sparsity_progress(self, completed: int) -> float:
        """How far, 0…1, the phase before the projection is."""
        return min(1.0, completed / self.project_at) if self.project_at else 1.0

    @property
    def steps_per_update(self) -> int:
        """The optimizer steps between two updates of Z and U, rounded down; 1 at least."""
        return max(1, self.steps_per_epoch // max(1, self.updates_per_epoch))

    def updates_after(self, step: int) -> bool:
        """Whether Z and U are updated after `step`; updates lie evenly in every epoch.

        Where the projection comes before the first of them, there is one half-way to it: without
        any, weights are but pulled towards the first projection.
        """
        if self.project_at is None or step > self.project_at or not self.updates_per_epoch:
            return False
        if math.ceil(self.steps_per_epoch / self.updates_per_epoch) > self.project_at:
            return step == max(1, self.project_at // 2)
        within = (step - 1) % self.steps_per_epoch + 1
        updates = self.updates_per_epoch
        # the number of updates due by `within` steps grows exactly where one falls
        return within * updates // self.steps_per_epoch > (
            (within - 1) * updates // self.steps_per_epoch
        )
