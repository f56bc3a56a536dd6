"""A task model and encoded examples in, the model trained on their labels out."""

from collections.abc import Callable

from transformers import PreTrainedModel

from nxmi_export.compression.objective import Objective
from nxmi_export.compression.progress import Progress
from nxmi_export.compression.pruning import FixedMasks
from nxmi_export.compression.training.loop import Job, train
from nxmi_export.compression.training.options import RunOptions
from nxmi_export.compression.training.session import Evaluate, Listeners, Session
from nxmi_export.compression.training.timeline import Timeline
from nxmi_export.encoding import EncodedDataset
from nxmi_export.recipe import DistillationSettings, TrainingSettings

__all__ = ["fine_tune"]

_DEFAULTS = RunOptions()
_LABELS_ONLY = DistillationSettings(labels=1.0, logits=0.0, hidden=0.0, attention=0.0)


def fine_tune(
    model: PreTrainedModel,
    data: EncodedDataset,
    training: TrainingSettings,
    options: RunOptions = _DEFAULTS,
    *,
    evaluate: Evaluate | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train `model` in place on the labels of `data`; it ends in float32 and eval mode.

    Under torchrun or accelerate launch every process calls it with the same arguments. `evaluate`
    measures the model at the end of every epoch. Raises DataError for data without examples,
    TrainingDiverged for a loss that is NaN or infinite, UsageError for the snapshot of another run,
    OutputError where none can be written and CapabilityMissing for a training step that is to be
    compiled and cannot be.
    """
    recipe = {"training": training.model_dump(mode="json")}
    session = Session.open(model, data, recipe, options, Listeners(evaluate, on_progress))
    job = Job(
        model,
        data,
        training,
        Timeline.of(len(data), training),
        Objective(_LABELS_ONLY, None, data.dataset.task.is_regression),
        FixedMasks({}),
    )
    train(job, session, session.snapshot())
    model.eval()
