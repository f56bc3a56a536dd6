"""A dev split that was run in, how far two rungs of its ladder are apart at every layer out."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn

from nxmi_export.errors import UsageError
from nxmi_export.parity import Stage
from nxmi_export.parity.drift import (
    Drift,
    Kind,
    ObservedRung,
    OnnxPoints,
    Point,
    TorchPoints,
    measure_drift,
)
from nxmi_export.workflow.parity.climb import Climbed
from nxmi_export.workflow.parity.ladder import NAMES, Ladder, spread

__all__ = ["check_layer_errors", "layer_errors"]

_BATCH = 8  # examples, whose values at every point are held together


def check_layer_errors(ladder: Ladder) -> None:
    """Refuse rungs that this ladder lacks or that show no layers, before the work."""
    shown = [stage for stage in ladder.stages if stage not in (Stage.OPENVINO, Stage.ENGINE)]
    for pair in ladder.request.layer_errors:
        for stage in pair:
            if stage not in shown and not (stage is Stage.CAPTURED and ladder.request.captured):
                raise UsageError(
                    f"layer errors from {pair[0]} to {pair[1]}",
                    expected=f"rungs of this run that show their layers: {', '.join(shown)}",
                    found=stage.value,
                    remedy=_REMEDIES.get(stage, "export the artefact with it"),
                )
        if Stage.DENSE in pair:
            _check_same_shapes(ladder)


def layer_errors(ladder: Ladder, climbed: Climbed, reference: Stage, candidate: Stage) -> Drift:
    """Run both freely over a few examples, spread over the split; memory is one small batch.

    An optimized graph is observed as far as that leaves it optimized: onnxruntime does not fuse
    across a value that it has to show. Logits of heads whose labels are in another order are left
    out.
    """
    feeds = climbed.data.batch(spread(len(climbed.data), 1)).feeds
    points = TorchPoints(ladder.model).points(feeds)
    orders = ladder.orders[climbed.data.dataset.task.name]
    same_head = orders[reference] == orders[candidate]
    with (
        _observed(ladder, reference, points) as before,
        _observed(ladder, candidate, points) as after,
    ):
        return measure_drift(
            before,
            after,
            climbed.data,
            batch_size=_BATCH,
            order=spread(len(climbed.data), ladder.request.drift_examples),
            kinds=[kind for kind in Kind if same_head or kind is not Kind.LOGITS],
            on_batch=partial(
                climbed.on_progress, f"layers, {NAMES[reference]} and {NAMES[candidate]}"
            ),
        )


@contextmanager
def _observed(ladder: Ladder, stage: Stage, points: tuple[Point, ...]) -> Iterator[ObservedRung]:
    """The rung under its stage's name."""
    if file := ladder.files.get(stage):
        with OnnxPoints(
            file.path,
            points,
            optimize=file.optimized,
            threads=ladder.threads,
            name=stage.value,
            entries=file.entries,
        ) as shown:
            yield shown
        return
    model = ladder.dense if stage is Stage.DENSE else ladder.model
    assert model is not None  # `check_layer_errors` has refused it
    yield TorchPoints(model, name=stage.value)


def _check_same_shapes(ladder: Ladder) -> None:
    """A dense model of another size has layers of the same names, and nothing to compare."""
    assert ladder.dense is not None
    dense = _shapes(ladder.dense)
    for name, shape in _shapes(ladder.model).items():
        if dense.get(name, shape) != shape:
            raise UsageError(
                f"layer errors from the dense model, {name}",
                expected=f"the shape {shape} of the compressed model",
                found=str(dense[name]),
                remedy="give the model that was compressed as --dense",
            )


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in model.named_parameters()}


_REMEDIES = {
    Stage.DENSE: "add --dense",
    Stage.CAPTURED: "add --captured",
    Stage.OPENVINO: "compare its logits; OpenVINO shows no layers",
    Stage.ENGINE: "compare its logits; an engine shows no layers",
}
