"""What forced replay says of logits, batches and padding, held to a gate."""

from collections.abc import Iterator, Sequence

from nxmi_export.parity.gate import Check, Gate
from nxmi_export.parity.ladder import Stage
from nxmi_export.parity.logits import gap_within
from nxmi_export.parity.result import ParityResult
from nxmi_export.parity.score_checks import non_inferiority
from nxmi_export.parity.shapes import ShapeParity, ShapeSetting

__all__ = ["drift_checks", "engine_checks", "openvino_checks", "replay_failures", "shape_failures"]

# The rungs whose codes can be read.
_REPLAYED = (Stage.CAPTURED, Stage.WRITTEN, Stage.OPTIMIZED)
_ENOUGH = 16  # examples of which a median says something
_USUAL = 0.9  # of the dev set; the furthest of many examples is a tie that says little


def replay_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    """Examples whose logits rounding does not explain, though their prediction has not changed."""
    for stage in _REPLAYED:
        step = result.step(Stage.COMPRESSED, stage)
        if step is None:
            continue  # that it did not run is another check's failure
        refused = [each for each in step.replayed if not each.explained]
        if gate.require_replay and not (step.replayed or step.explanations):
            yield f"No example of {step.comparison.candidate} was replayed."
        elif refused:
            yield (
                f"{step.comparison.candidate} gives other logits than "
                f"{step.comparison.reference} for {len(refused)} of {len(step.replayed)} replayed "
                "examples, which no rounding tie explains, though their predictions are the same; "
                f"example {refused[0].index}: {refused[0].reason}"
            )


def shape_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    """Batch sizes and padding that change more than the order of sums does."""
    yield from _shapes_failures([each for each in result.shapes if each.observable], gate)


def _shapes_failures(found: Sequence[ShapeParity], gate: Gate, on: str = "") -> Iterator[str]:
    if gate.require_shapes and not found:
        yield f"Batch sizes and padded lengths were not compared{on}."
    for shapes in found:
        if not shapes.settings or not shapes.examples:
            yield f"{shapes.name} was to run in several shapes and ran in one."
        for setting in shapes.settings:
            yield from _setting_failures(shapes, setting, gate)


def _where(shapes: ShapeParity, setting: ShapeSetting) -> str:
    side = " on the left" if setting.left else ""
    length = f" to {setting.pad_to} tokens" if setting.pad_to else ""
    padding = f" padded{length}{side}" if side or length else ""
    return f"{shapes.name} in batches of {setting.batch_size}{padding}"


def _setting_failures(shapes: ShapeParity, setting: ShapeSetting, gate: Gate) -> Iterator[str]:
    where = _where(shapes, setting)
    refused = [each for each in setting.replays if not each.explained]
    allowed = gate.max_shape_changed * shapes.examples
    if not shapes.observable:
        allowed = max(1, allowed)  # as of a dev set, in `_unobserved_failures`
    if not setting.finite:
        yield f"{where} gave NaN or infinite logits."
    elif setting.unexplained > allowed:
        more = " without an explanation" if setting.replays else ""
        yield f"{where} changed {setting.unexplained} of {shapes.examples} predictions{more}."
    elif refused:
        yield (
            f"{where} gives other logits than rounding explains for {len(refused)} of "
            f"{len(setting.replays)} replayed examples; example {refused[0].index}: "
            f"{refused[0].reason}"
        )
    elif gate.require_replay and shapes.observable and not setting.replays:
        yield f"{where}: no example was replayed."


def drift_checks(result: ParityResult) -> Iterator[Check]:
    """The first layer beyond rounding of each rung and its cause, where drift was measured."""
    if result.drift:
        yield Check("drift within rounding", tuple(_drift_failures(result)))


def _drift_failures(result: ParityResult) -> Iterator[str]:
    for stage, drift in result.drift.items():
        if drift.explained:
            continue
        cause = drift.attribution
        told = f" ({cause.cause.value}). {cause.reason}" if cause is not None else "."
        yield f"{result.rungs[stage].name} drifts from PyTorch at {drift.first_layer}{told}"


def openvino_checks(result: ParityResult, gate: Gate) -> Iterator[Check]:
    """OpenVINO, where it was asked for: what it and its shapes changed, what its score proves."""
    if Stage.OPENVINO in result.rungs:
        failures = _unobserved_failures(result, gate, Stage.OPENVINO, "OpenVINO")
        shapes = [each for each in result.shapes if not each.observable]
        told = (*_shapes_failures(shapes, gate, " on OpenVINO"), *_moved_failures(result, shapes))
        few = min((each.examples for each in shapes), default=_ENOUGH)
        undecided = (
            f"{few} examples are too few to say how far batch sizes and padding move a typical one "
            f"on OpenVINO, where {_ENOUGH} can."
        )
        yield Check("OpenVINO", (*failures, *told), undecided if few < _ENOUGH else None)
        yield non_inferiority(result, gate, None, Stage.OPENVINO)


def _moved_failures(result: ParityResult, found: Sequence[ShapeParity]) -> Iterator[str]:
    """Shapes that move half of the examples further than nine in ten of the dev set lie away.

    Away from PyTorch, as ties of rounding do. By chance half of `_ENOUGH` examples are among the
    last tenth in fewer than one run of a thousand.
    """
    step = result.step(Stage.COMPRESSED, Stage.OPENVINO)
    for shapes in found:
        for setting in shapes.settings:
            median = setting.median_logit_gap
            if step is None or median is None or shapes.examples < _ENOUGH:
                continue
            first, last = (result.rungs[each] for each in (Stage.COMPRESSED, Stage.OPENVINO))
            usual = gap_within(first.logits, last.logits, _USUAL)
            if not median <= usual:  # not a number either
                yield (
                    f"{_where(shapes, setting)} moved the logits of half of {shapes.examples} "
                    f"examples by {median:.2g} or more, where nine in ten of the dev set lie "
                    f"within {usual:.2g} of {step.comparison.reference}."
                )


def engine_checks(result: ParityResult, gate: Gate) -> Iterator[Check]:
    """The engine, where the artefact has one: what it changed, or that nothing is known of it."""
    name = "TensorRT engine"
    unproven = result.unproven.get(Stage.ENGINE)
    if unproven is not None and unproven.deployed:
        doubt = f"The engine is unproven: {unproven.reason}"
        yield Check(name, (doubt,)) if gate.strict else Check(name, undecided=doubt)
    elif Stage.ENGINE in result.rungs:
        yield Check(name, tuple(_unobserved_failures(result, gate, Stage.ENGINE, "The engine")))


def _unobserved_failures(result: ParityResult, gate: Gate, stage: Stage, who: str) -> Iterator[str]:
    """Of a rung that shows no codes."""
    step = result.step(Stage.COMPRESSED, stage)
    if step is None or not step.comparison.comparable or not step.comparison.examples:
        yield f"{who} cannot be compared with compressed PyTorch."
        return
    comparison = step.comparison
    allowed = max(1, int(gate.max_kernel_changed * comparison.examples))
    if len(step.unexplained) > allowed:
        yield (
            f"{comparison.candidate} changed {len(step.unexplained)} of {comparison.examples} "
            f"predictions of {comparison.reference} without an explanation, where {allowed} may; "
            f"the first is example {step.unexplained[0]}."
        )
    drop = -comparison.primary_difference
    # One prediction of a small dev set may be worth more than the limit.
    if len(comparison.changes) > 1 and not drop <= gate.max_drop:
        yield (
            f"The score of {comparison.candidate} is {drop:.4f} below that of "
            f"{comparison.reference}, where {gate.max_drop:.4f} is allowed."
        )
