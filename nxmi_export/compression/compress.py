"""A dense task model and a recipe in, the same model compressed and trained out."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression.calibrate import calibrate
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.objective import Objective
from nxmi_export.compression.progress import Progress
from nxmi_export.compression.pruning import Sparsifier, sparsifier
from nxmi_export.compression.reconstruction import reconstructed_weights
from nxmi_export.compression.restore import check_patterns, check_scales
from nxmi_export.compression.scales import freeze_scales, set_quantizing
from nxmi_export.compression.tables import quantized_tables
from nxmi_export.compression.training import RunOptions
from nxmi_export.compression.training.loop import Job, train
from nxmi_export.compression.training.processes import share, share_weights
from nxmi_export.compression.training.session import Evaluate, Listeners, Session
from nxmi_export.compression.training.timeline import Timeline
from nxmi_export.encoding import EncodedDataset
from nxmi_export.errors import InternalError, UsageError
from nxmi_export.recipe import Recipe

__all__ = ["compress"]

_DEFAULTS = RunOptions()


def compress(
    model: PreTrainedModel,
    data: EncodedDataset,
    recipe: Recipe,
    options: RunOptions = _DEFAULTS,
    *,
    evaluate: Evaluate | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Compress `model`, a dense one with a task head, in place; it ends in float32 and eval mode.

    What it is at the start is also the teacher of the distillation. With 0 epochs it is projected
    and calibrated only. Under torchrun or accelerate launch every process calls it with the same
    arguments. `evaluate` measures the model at the end of every epoch.

    Raises UsageError for a model that has quantizers already and for the snapshot of another run,
    RecipeError, UnsupportedModel or UnsupportedWeight for a recipe that does not fit the model,
    DataError for data without examples, TrainingDiverged for a loss that is NaN or infinite,
    OutputError where no snapshot can be written and CapabilityMissing for a training step that is
    to be compiled and cannot be.
    """
    _check_dense(model)
    listeners = Listeners(evaluate, on_progress)
    session = Session.open(model, data, recipe.as_mapping(), options, listeners)
    if recipe.training.epochs:
        _train(model, data, recipe, session)
    else:
        _without_training(model, data, recipe, session)
    freeze_scales(model)
    model.eval()
    check_scales(model)
    check_patterns(model)
    _check_codes(model)


def _check_dense(model: PreTrainedModel) -> None:
    first = next(iter(compressed_linears(model) or quantized_tables(model)), None)
    if first is not None:
        raise UsageError(
            type(model).__name__,
            expected="a dense model to compress",
            found=f"one that is compressed already, {first} for one",
            remedy="start from the dense model that it was made from",
        )


def _train(model: PreTrainedModel, data: EncodedDataset, recipe: Recipe, session: Session) -> None:
    teacher = copy.deepcopy(model) if recipe.distillation.needs_teacher else None
    objective = Objective(recipe.distillation, teacher, data.dataset.task.is_regression)
    snapshot = session.snapshot()
    _insert(model, recipe)
    linears = compressed_linears(model)
    timeline = Timeline.of(
        len(data),
        recipe.training,
        recipe.sparsity if _has_patterns(linears) else None,
        quantizes=any(linear.weight_quantizer for linear in linears.values())
        or bool(quantized_tables(model)),
    )
    if snapshot is None:
        pruning = _begin_pruning(model, data, recipe, session, timeline)
    else:  # it continues, so it is not started
        per_update = timeline.steps_per_update
        pruning = sparsifier(linears, recipe.sparsity, steps_per_update=per_update)
    set_quantizing(model, False)  # until the timeline calibrates them
    train(Job(model, data, recipe.training, timeline, objective, pruning), session, snapshot)


def _without_training(
    model: PreTrainedModel, data: EncodedDataset, recipe: Recipe, session: Session
) -> None:
    # Without training there is no penalty to approach a pattern by: project at once.
    sparsity = recipe.sparsity.model_copy(update={"method": "magnitude"})
    recipe = recipe.model_copy(update={"sparsity": sparsity})
    _insert(model, recipe)
    _begin_pruning(model, data, recipe, session)
    session.begin("calibrating the quantizers")
    calibrate(model, data)
    share_weights(model, session.accelerator)


def _insert(model: PreTrainedModel, recipe: Recipe) -> None:
    insert_quantizers(model, recipe)
    torch.nn.Module.to(model, model.device)  # scales are made on the CPU


def _begin_pruning(
    model: PreTrainedModel,
    data: EncodedDataset,
    recipe: Recipe,
    session: Session,
    timeline: Timeline | None = None,
) -> Sparsifier:
    """Reconstruct where the recipe asks for it, and prune what is pruned from the start.

    That is everything without a timeline, which stands for no training. Weights, held scales and
    the sparsifier are equal in all processes afterwards.
    """
    linears = compressed_linears(model)
    initial = None
    if recipe.sparsity.initial == "reconstruction" and recipe.sparsity.method != "sr-ste":
        initial = _reconstructed(model, data, recipe, session)
        pruned = timeline is None or timeline.project_at in (None, 0)  # None: a magnitude mask
        quantized = timeline is None or timeline.quantize_at == 0
        for name, linear in linears.items():
            begins = pruned if linear.scheme.pattern is not None else quantized
            if name in initial and begins:
                _put(linear, initial[name])
            # Elsewhere the dense weights go on, or weights leave the grid before it is used.
            if linear.weight_quantizer is not None and not (begins and quantized):
                linear.weight_quantizer.release()
    per_update = 1 if timeline is None else timeline.steps_per_update
    pruning = sparsifier(linears, recipe.sparsity, initial, steps_per_update=per_update)
    pruning.start()
    share_weights(model, session.accelerator)
    share(pruning.state_dict(), session.accelerator)
    return pruning


def _reconstructed(
    model: PreTrainedModel, data: EncodedDataset, recipe: Recipe, session: Session
) -> dict[str, Tensor]:
    session.begin("reconstructing the linears")
    return reconstructed_weights(
        model,
        data,
        batches=recipe.activations.calibration_batches,
        on_linear=lambda done: session.begin(
            f"reconstructing the linears: {done.number} of {done.total} done"
        ),
    )


@torch.no_grad()
def _put(linear: CompressedLinear, weight: Tensor) -> None:
    linear.weight.copy_(weight)


def _check_codes(model: PreTrainedModel) -> None:
    """Raise InternalError for the first weight whose stored integers break its pattern.

    They follow from weights that keep it, and it is them that a sparse kernel reads.
    """
    for name, linear in compressed_linears(model).items():
        pattern = linear.scheme.pattern
        if pattern is None or linear.weight_quantizer is None:
            continue
        counts = (linear.codes() != 0).reshape(linear.out_features, -1, pattern.group).sum(-1)
        if (counts > pattern.keep).any():
            row, group = (counts > pattern.keep).nonzero()[0].tolist()
            raise InternalError(
                f"integer weights of {name}",
                expected=f"{pattern} sparsity along in_features",
                found=f"{int(counts[row, group])} non-zeros in group {group} of row {row}",
                remedy="please report it with the recipe",
            )


def _has_patterns(linears: Mapping[str, CompressedLinear]) -> bool:
    return any(linear.scheme.pattern is not None for linear in linears.values())
