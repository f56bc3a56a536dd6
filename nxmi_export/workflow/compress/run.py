"""A request in, the compressed model and the account of the run beside it out."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from accelerate import Accelerator, init_empty_weights
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.compression import checkpoint_of, compress, insert_quantizers, restore
from nxmi_export.compression.progress import Continued, EpochDone, Progress, StageBegun, StepDone
from nxmi_export.compression.training import RunOptions, join_processes
from nxmi_export.compression.training.compiled import check_compiler
from nxmi_export.compression.training.optimizer import only_trained
from nxmi_export.compression.training.processes import check_precision
from nxmi_export.sole_writer import sole_writer
from nxmi_export.workflow.compress.account import account, provenance
from nxmi_export.workflow.compress.data import TaskData
from nxmi_export.workflow.compress.outputs import Outputs
from nxmi_export.workflow.compress.publish import publish
from nxmi_export.workflow.compress.request import CompressRequest
from nxmi_export.workflow.compress.result import CompressResult
from nxmi_export.workflow.compress.run_log import RunLog
from nxmi_export.workflow.compress.stored import magnitude_masks_of
from nxmi_export.workflow.compress.tracking import check_tracker, tracking
from nxmi_export.workflow.compress.unfinished import first_stage, told_what_stays
from nxmi_export.workflow.dense_model import read_dense

__all__ = ["compress_model"]

OnProgress = Callable[[Progress], None]


def compress_model(
    request: CompressRequest, on_progress: OnProgress = lambda progress: None
) -> CompressResult | None:
    """Compress and train; the model file and the account of the run appear at the end.

    The result, on the main process of a distributed launch; the others get None, write nothing
    and report nothing. `on_progress` hears of the dense model as epoch 0.

    A run that ends early leaves its log and its snapshots, which `resume` continues. Raises
    UsageError and its kinds for what cannot be done as asked, TrainingDiverged where the loss is
    no number, CapabilityMissing for the tracker of an absent package and for a model to compile
    where nothing compiles it.
    """
    accelerator, outputs = join_processes(), Outputs(request.output)
    check_precision(request.precision)
    check_tracker(request.tracker)
    if not accelerator.is_main_process:
        run = _Run.open(request, outputs, accelerator)
        run.train(run.dense_model(), lambda progress: None)
        return None
    with sole_writer(outputs.log):
        outputs.check(request)
        if request.compiled and request.recipe.training.epochs:
            on_progress(StageBegun("trying torch.compile"))
            check_compiler(accelerator.device)
        on_progress(StageBegun("reading the model and the data"))
        run = _Run.open(request, outputs, accelerator)
        return run.on_main_process(run.dense_model(), on_progress)


@dataclass(frozen=True)
class _Run:
    """One run in one of its processes: what was read, and where everything goes."""

    request: CompressRequest
    outputs: Outputs
    accelerator: Accelerator
    source: CompressedCheckpoint
    data: TaskData

    @classmethod
    def open(cls, request: CompressRequest, outputs: Outputs, accelerator: Accelerator) -> Self:
        source = read_dense(request.model, base=request.base)
        return cls(request, outputs, accelerator, source, TaskData.load(request, source))

    def dense_model(self) -> PreTrainedModel:
        """The model to compress; refuses a recipe that does not fit it."""
        model = restore(self.source)
        # Now rather than after the dense model has been evaluated.
        blank, training = self._blank(model), self.request.recipe.training
        if training.epochs:
            with only_trained(blank, training.trained):
                pass  # there is something to train
        return model

    def _blank(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model with the recipe's quantizers and without weights."""
        with init_empty_weights():
            # The configuration is copied: inserting quantizers changes the attention it names.
            blank = type(model)(copy.deepcopy(model.config))
        insert_quantizers(blank, self.request.recipe)
        return blank

    def on_main_process(self, model: PreTrainedModel, on_progress: OnProgress) -> CompressResult:
        self.outputs.begin(self.request)
        with RunLog(self.outputs.log, resume=self.request.resume) as log:
            on_progress(first_stage(self.outputs, resume=self.request.resume))
            dense = self.data.evaluate(model.to(self.accelerator.device))
            epochs = self.request.recipe.training.epochs
            on_progress(EpochDone(0, epochs, 0, dense, projected={}, residuals=None))
            # Training moves the source's own weights: on the CPU the model shares them.
            magnitude = magnitude_masks_of(self._blank(model), self.source.state)
            with told_what_stays(self.outputs, log):
                continued = self._train_logged(model, log, on_progress)
                on_progress(StageBegun("evaluating the compressed model"))
                return self._finish(model, dense, magnitude, log, continued)

    def train(self, model: PreTrainedModel, on_progress: OnProgress) -> None:
        request = self.request
        options = RunOptions(
            seed=request.seed,
            precision=request.precision,
            compiled=request.compiled,
            accumulation=request.accumulation,
            snapshots=self.outputs.snapshots,
            snapshot_seconds=request.snapshot_seconds,
            resume=request.resume,
            adjusted=request.adjusted,
        )
        compress(
            model,
            self.data.train,
            request.recipe,
            options,
            evaluate=self.data.evaluate,
            on_progress=on_progress,
        )

    def _train_logged(
        self, model: PreTrainedModel, log: RunLog, on_progress: OnProgress
    ) -> list[Continued]:
        """Every time that the run went on with other settings, this time included."""
        request, outputs = self.request, self.outputs
        continued: list[Continued] = []
        with tracking(request.tracker, outputs.name, outputs.tracked, request.recipe) as track:

            def hear(report: Progress) -> None:
                if isinstance(report, StepDone | EpochDone):
                    entry = log.add(report)
                    if track is not None:
                        track.add(entry)
                elif isinstance(report, Continued):
                    continued.append(report)
                on_progress(report)

            self.train(model, hear)
        return continued

    def _finish(
        self,
        model: PreTrainedModel,
        dense: Mapping[str, float],
        magnitude: Mapping[str, Tensor],
        log: RunLog,
        continued: list[Continued],
    ) -> CompressResult:
        request = self.request
        compressed = checkpoint_of(
            model, recipe=request.recipe, tokenizer=self.source.tokenizer, provenance={}
        )
        # What a reader of the file will get, not what training left in memory.
        rebuilt = restore(compressed).to(self.accelerator.device)
        result = account(
            request,
            self.source,
            self.data,
            rebuilt,
            magnitude=magnitude,
            metrics={"dense": dense, "compressed": self.data.evaluate(rebuilt)},
            conditions={
                "processes": self.accelerator.num_processes,
                "continued": [
                    {"after_step": each.after_step, "before": each.before} for each in continued
                ],
            },
            log=log,
        )
        publish(self.outputs, replace(compressed, provenance=provenance(result)), result, log)
        return result
