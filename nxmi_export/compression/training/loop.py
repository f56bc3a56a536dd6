"""The training loop: a model, its objective and a timeline in, the trained model out.

One step is: the gradients of a global batch (over micro-batches and processes), the sparsifier's
own part, clipping, AdamW. Everything that decides the next step is in the snapshot, so a run that
continues from one ends with the bits of the run that was never stopped, but where it is compiled.

A step that fp16's loss scaler skips counts on the timeline and moves nothing but the scaler; an
update of Z and U that was due after it comes after the next step that is taken.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression.objective import Objective
from nxmi_export.compression.progress import Continued, EpochDone, Residuals, StepDone
from nxmi_export.compression.pruning import Admm, Sparsifier, SrSte
from nxmi_export.compression.scales import load_quantizer_state, quantizer_state
from nxmi_export.compression.training.batches import Indices, epoch_batches
from nxmi_export.compression.training.compiled import check_compiler
from nxmi_export.compression.training.divergence import Watch
from nxmi_export.compression.training.gradients import Gradients
from nxmi_export.compression.training.optimizer import Optimizer, only_trained, with_dropout
from nxmi_export.compression.training.processes import failing_together, share_weights
from nxmi_export.compression.training.quantization import (
    as_deployed,
    begin_quantizing,
    hand_over,
    train_scales,
)
from nxmi_export.compression.training.randomness import (
    draws_apart,
    seed_everything,
    set_random_state,
)
from nxmi_export.compression.training.session import Session
from nxmi_export.compression.training.timeline import Timeline
from nxmi_export.encoding import EncodedDataset
from nxmi_export.recipe import TrainingSettings

__all__ = ["Job", "train"]


@dataclass(frozen=True)
class Job:
    """What to train, towards what, and when."""

    model: PreTrainedModel
    data: EncodedDataset
    training: TrainingSettings
    timeline: Timeline
    objective: Objective
    sparsifier: Sparsifier


def train(job: Job, session: Session, snapshot: Mapping[str, Any] | None) -> None:
    """Train `job.model` in place to the end of the timeline, from `snapshot` or the beginning.

    From the beginning, the sparsifier has been started and quantizers are switched off. Raises
    TrainingDiverged where a loss, a gradient or, at an epoch's end and before a snapshot, what the
    weights compute is NaN or infinite; CapabilityMissing where the model is to be compiled and
    cannot be.
    """
    if session.options.compiled:
        check_compiler(session.accelerator.device)
    with (
        only_trained(job.model, job.training.trained),
        with_dropout(job.model, job.training.dropout),
    ):
        _Loop(job, session).run(snapshot)


class _Loop:
    def __init__(self, job: Job, session: Session) -> None:
        self._job = job
        self._session = session
        self._device = session.accelerator.device
        self._optimizer = Optimizer.over(job.model, job.training)
        options = session.options
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=options.precision == "fp16")
        self._gradients = Gradients(
            job.model, job.objective, job.data, session.accelerator, session.share, options
        )
        self._completed = 0  # optimizer steps
        self._compiles = options.compiled  # the next of them
        self._residuals: Residuals | None = None  # of the last update
        self._continued: list[dict[str, Any]] = []  # as in the snapshot
        self._watch = Watch(skips=self._scaler.is_enabled())
        self._saved_at = time.monotonic()

    def run(self, snapshot: Mapping[str, Any] | None) -> None:
        timeline = self._job.timeline
        if snapshot is None:
            seed_everything(self._session.options.seed, self._session.share.rank)
        else:
            self._restore(snapshot)
        self._wrap()
        self._job.model.train()
        while self._completed < timeline.total:
            self._epoch(timeline.epoch_of(self._completed + 1))
        self._between_steps()

    def _epoch(self, epoch: int) -> None:
        job, timeline = self._job, self._job.timeline
        batches = epoch_batches(
            job.data, job.training.batch_size, seed=self._session.options.seed, epoch=epoch
        )
        for batch in batches[self._completed % timeline.steps_per_epoch :]:
            self._between_steps()
            due = self._step(batch, epoch)
            ends = timeline.ends_epoch(self._completed)
            if ends or due:
                self._check_weights(batch, epoch)
            if ends:
                self._report(epoch)
            if ends or due:
                self._save()

    def _save(self) -> None:
        self._session.save(self._state())
        self._saved_at = time.monotonic()
        if self._session.options.snapshots is not None:
            self._watch.saved(self._completed)

    def _between_steps(self) -> None:
        """What the timeline puts between the step just completed and the next."""
        job, session, completed = self._job, self._session, self._completed
        if completed == job.timeline.project_at:
            session.begin("projecting the weights onto their patterns")
            job.sparsifier.project()
            self._optimizer.forget_pruned(job.sparsifier.finally_masked())
            self._residuals = None
            if job.timeline.quantizes_before(completed):
                self._calibrate(hand_over)
                self._optimizer.restart_scales()
                share_weights(job.model, session.accelerator)
            if isinstance(job.sparsifier, SrSte):  # whose masks leave the forward pass
                self._compiles = session.options.compiled
        if completed == job.timeline.quantize_at:
            self._calibrate(begin_quantizing)
            self._train_scales()
            share_weights(job.model, session.accelerator)

    def _calibrate(self, by: Callable[[PreTrainedModel, EncodedDataset], None]) -> None:
        job = self._job
        self._session.begin("calibrating the quantizers")
        with draws_apart(self._device):
            by(job.model, job.data)
        job.model.train()

    def _train_scales(self) -> None:
        self._optimizer.add_scales(train_scales(self._job.model))
        self._wrap()

    def _wrap(self) -> None:
        self._gradients.wrap()
        self._compiles = self._session.options.compiled

    def _step(self, batch: Indices, epoch: int) -> bool:
        """One optimizer step; whether a snapshot is due after it, the same in every process."""
        job, timeline, number = self._job, self._job.timeline, self._completed + 1
        if self._compiles:
            self._session.begin("compiling the training step, which takes minutes")
            self._compiles = False
        rate = self._optimizer.set_rate(number, timeline)
        losses = self._gradients.of(batch, self._scaler)
        self._scaler.unscale_(self._optimizer.adamw)
        job.sparsifier.add_gradients(timeline.sparsity_progress(self._completed))
        norm = self._optimizer.clip()
        told, gradient_norm, due = self._told(losses, norm)
        skipped_before = self._watch.skipped  # in a row
        self._watch.check(
            {**told, "gradient norm": gradient_norm},
            lambda: self._gradients.where_not_finite(batch),
            f"step {number} (epoch {epoch})",
            self._session.drop,
        )
        if self._watch.doubtful:
            self._session.keep()
            self._watch.doubtful = False
        taken = not self._watch.skipped
        if taken:
            self._scaler.step(self._optimizer.adamw)
        self._scaler.update()
        self._optimizer.adamw.zero_grad()
        self._completed = number
        if taken:
            job.sparsifier.after_step(timeline.sparsity_progress(number))
            if any(map(timeline.updates_after, range(number - skipped_before, number + 1))):
                self._residuals = job.sparsifier.update()
        loss = told.pop("loss")
        self._session.tell(StepDone(number, timeline.total, epoch, loss, told, rate))
        return due

    def _check_weights(self, batch: Indices, epoch: int) -> None:
        """What the losses of the next step would tell, before the weights are judged or saved."""
        self._job.model.eval()  # in training, tables would refit their scales once more
        place = self._gradients.where_not_finite(batch)
        self._job.model.train()
        self._watch.check_weights(place, f"step {self._completed} (epoch {epoch})")

    def _told(
        self, losses: Mapping[str, Tensor], norm: Tensor
    ) -> tuple[dict[str, float], float, bool]:
        """Losses of the global batch, the gradients' norm, and whether a snapshot is due.

        All that the host must know of a step, fetched from the device at once. The main process's
        clock decides for all of them.
        """
        session = self._session
        elapsed = time.monotonic() - self._saved_at
        due = session.accelerator.is_main_process and elapsed >= session.options.snapshot_seconds
        # Every process has its part of the means; the norm is that of the summed gradients already.
        parts = torch.stack([*losses.values(), norm.new_tensor(float(due))])
        summed = session.accelerator.reduce(parts, "sum")
        *values, late, gradient_norm = torch.cat([summed, norm[None]]).tolist()
        return dict(zip(losses, values, strict=True)), gradient_norm, late > 0

    def _report(self, epoch: int) -> None:
        metrics, projected = self._evaluated()
        epochs = self._job.timeline.epochs
        done = EpochDone(epoch, epochs, self._completed, metrics, projected, self._residuals)
        self._session.tell(done)

    def _evaluated(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """The metrics of the model as it is, and with every weight on its pattern."""
        job, session = self._job, self._session
        metrics: Mapping[str, float] = {}
        projected: Mapping[str, float] = {}
        evaluate = session.listeners.evaluate
        if evaluate is None:
            return metrics, projected
        session.begin("evaluating")
        with failing_together(session.accelerator):
            if session.accelerator.is_main_process:
                with draws_apart(self._device):
                    with as_deployed(job.model):
                        metrics = projected = evaluate(job.model)
                    if self._is_off_pattern():
                        with job.sparsifier.projected(), as_deployed(job.model, projected=True):
                            projected = evaluate(job.model)
        return metrics, projected

    def _is_off_pattern(self) -> bool:
        """Whether weights that run may lie off their patterns: under ADMM's penalty only."""
        project_at = self._job.timeline.project_at
        relaxed = project_at is not None and self._completed <= project_at
        return relaxed and isinstance(self._job.sparsifier, Admm)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self._completed,
            "model": dict(self._job.model.state_dict()),
            "quantizers": quantizer_state(self._job.model),
            "optimizer": self._optimizer.adamw.state_dict(),
            "scaler": self._scaler.state_dict(),
            "skipped": self._watch.skipped,
            "sparsifier": self._job.sparsifier.state_dict(),
            "residuals": asdict(self._residuals) if self._residuals else None,
            "continued": self._continued,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        job = self._job
        self._completed = state["step"]
        self._watch.saved(self._completed)
        if job.timeline.quantizes_before(self._completed):
            self._train_scales()  # for the parameters; their values come with the others
        job.model.load_state_dict(state["model"])
        load_quantizer_state(job.model, state["quantizers"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._watch.skipped = state["skipped"]
        job.sparsifier.load_state_dict(state["sparsifier"])
        residuals = state["residuals"]
        self._residuals = Residuals(**residuals) if residuals else None
        set_random_state(state["random"][self._session.share.rank], self._device)
        self._continued = state["continued"]
        for each in self._continued:
            self._session.tell(Continued.of(each["after_step"], each["before"]))
