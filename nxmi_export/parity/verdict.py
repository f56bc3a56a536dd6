"""A `ParityResult` and a `Gate` in, yes or no with every reason out.

What was not checked is a reason for no: an empty result fails. Only the agreement of activation
codes is reported and not judged: two free runs drift apart behind the first tie, so that no rate
separates a fault from noise; what codes prove is in the explanation of each changed prediction.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nxmi_export.parity.ladder import RungResult, Stage
from nxmi_export.parity.result import ParityResult, Step

__all__ = ["Gate", "Verdict", "verdict"]

ROUNDING = 1e-9  # differences of scores that are equal on paper


@dataclass(frozen=True)
class Gate:
    """What a result must keep to.

    `max_drop` has room for rounding ties: on a dev set of a thousand examples they alone change a
    few predictions, each worth a tenth of a point. Where those come from is checked separately.
    `max_shape_changed` is not zero because batch size and padding change the order of sums, which
    tips rounding ties; a mask that leaks changes far more. `max_kernel_changed` is not zero for the
    same reason: optimized kernels add in other orders, and with float32 sums only ties tip. Before
    it, the file for the CPU run as it is written must give the logits of `model.onnx` bit for bit,
    for which there is no tolerance to set.
    """

    max_changed: int = 0  # unexplained, from compressed PyTorch to ONNX as written
    max_drop: float = 0.005  # of the primary score, from compressed PyTorch to ONNX optimized
    max_kernel_changed: float = 0.01  # share of predictions, from ONNX as written to optimized
    max_shape_changed: float = 0.01  # share of predictions, in each shape
    require_shapes: bool = True  # False: a result without compared shapes may pass


@dataclass(frozen=True)
class Verdict:
    """Every failed condition, one sentence each."""

    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all conditions were checked and hold."""
        return not self.failures


def verdict(result: ParityResult, gate: Gate) -> Verdict:
    """Hold `result` to `gate`; conditions that could not be checked count as failed."""
    return Verdict(
        (
            *_rung_failures(result),
            *_change_failures(result, gate),
            *_shift_failures(result),
            *_kernel_failures(result, gate),
            *_drop_failures(result, gate),
            *_weight_failures(result),
            *_shape_failures(result, gate),
        )
    )


def _rung_failures(result: ParityResult) -> Iterator[str]:
    for stage in Stage:
        if stage is not Stage.DENSE and stage not in result.rungs:
            yield f"The rung {stage.value!r} was not run."
    for rung in result.rungs.values():
        if not len(rung.dataset):
            yield f"{rung.name} was run over no examples."
        if len(rung.non_finite):
            yield (
                f"{rung.name} gave NaN or infinite logits for {len(rung.non_finite)} of "
                f"{len(rung.dataset)} examples, the first of them example {rung.non_finite[0]}."
            )


def _change_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    step = result.step(Stage.COMPRESSED, Stage.WRITTEN)
    if step is None:
        yield "Compressed PyTorch was not compared with the ONNX file as written."
        return
    comparison = step.comparison
    if not comparison.comparable or not comparison.examples:
        yield f"{comparison.candidate} cannot be compared with {comparison.reference}."
    elif len(step.unexplained) > gate.max_changed:
        yield (
            f"{comparison.candidate} changed {len(step.unexplained)} of {comparison.examples} "
            f"predictions of {comparison.reference} without an explanation, where "
            f"{gate.max_changed} may; example {step.unexplained[0]}: {_reason(step)}"
        )


def _reason(step: Step) -> str:
    first = step.unexplained[0]
    reasons = (e.reason for e in step.explanations if e.index == first)
    return next(reasons, "It was not examined.")


def _shift_failures(result: ParityResult) -> Iterator[str]:
    step = result.step(Stage.WRITTEN, Stage.SHIFTED)
    if step is None or not step.comparison.examples:
        yield "The ONNX file for the CPU was not compared with the ONNX file as written."
        return
    comparison = step.comparison
    if comparison.different:
        yield (
            f"{comparison.candidate} gave other logits than {comparison.reference} for "
            f"{len(comparison.different)} of {comparison.examples} examples, where all must be "
            f"equal bit for bit; the first is example {comparison.different[0]}, and the largest "
            f"gap {comparison.largest_logit_gap:.2g}."
        )


def _kernel_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    step = result.step(Stage.WRITTEN, Stage.OPTIMIZED)
    if step is None:
        yield "ONNX optimized was not compared with the ONNX file as written."
        return
    comparison = step.comparison
    if not comparison.comparable or not comparison.examples:
        yield f"{comparison.candidate} cannot be compared with {comparison.reference}."
    elif len(comparison.changes) > gate.max_kernel_changed * comparison.examples:
        yield (
            f"{comparison.candidate} changed {len(comparison.changes)} of {comparison.examples} "
            f"predictions of {comparison.reference}, where {gate.max_kernel_changed:.1%} may; the "
            f"first is example {comparison.changes[0].index}."
        )


def _drop_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    reference, candidate = map(result.rungs.get, (Stage.COMPRESSED, Stage.OPTIMIZED))
    if reference is None or candidate is None:
        yield "The score of ONNX optimized was not compared with that of compressed PyTorch."
        return
    drop = reference.primary - candidate.primary
    if not drop <= gate.max_drop + ROUNDING:  # written so that NaN fails
        yield (
            f"The {_metric(reference)} fell from {reference.primary:.4f} in {reference.name} to "
            f"{candidate.primary:.4f} in {candidate.name}, where {gate.max_drop:.4f} is allowed."
        )


def _metric(rung: RungResult) -> str:
    return rung.dataset.task.primary_metric


def _weight_failures(result: ParityResult) -> Iterator[str]:
    if not result.weights:
        yield "The stored weights were not compared."
    for name, weights in result.weights.items():
        if weights.mismatches:
            yield (
                f"{name} differs from the PyTorch model in {len(weights.mismatches)} places, "
                f"the first being {weights.mismatches[0]}."
            )
        elif not weights.equal:
            yield f"{name}: no stored weight was compared, because the model has no linear layer."


def _shape_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    if gate.require_shapes and not result.shapes:
        yield "Batch sizes and padded lengths were not compared."
    for shapes in result.shapes:
        if not shapes.settings or not shapes.examples:
            yield f"{shapes.name} was to run in several shapes and ran in one."
        for setting in shapes.settings:
            padding = f" padded to {setting.pad_to} tokens" if setting.pad_to else ""
            where = f"{shapes.name} in batches of {setting.batch_size}{padding}"
            if not setting.finite:
                yield f"{where} gave NaN or infinite logits."
            elif setting.changed > gate.max_shape_changed * shapes.examples:
                yield f"{where} changed {setting.changed} of {shapes.examples} predictions."
