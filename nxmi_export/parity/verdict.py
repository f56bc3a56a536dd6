"""A `ParityResult` and a `Gate` in, yes or no with every reason out.

What was not checked is a reason for no: an empty result fails. Only the agreement of activation
codes is reported and not judged: two free runs drift apart behind the first tie, so that no rate
separates a fault from noise; what codes prove is in the explanation of each changed prediction.
"""

from collections.abc import Iterator

from nxmi_export.artefact import FP16_MODEL, INT4_MODEL
from nxmi_export.parity.gate import Check, Gate, Verdict
from nxmi_export.parity.ladder import Stage
from nxmi_export.parity.probe_checks import probe_checks
from nxmi_export.parity.replay_checks import (
    drift_checks,
    engine_checks,
    openvino_checks,
    replay_failures,
    shape_failures,
)
from nxmi_export.parity.result import ParityResult, Step
from nxmi_export.parity.score_checks import drop_failures, flip_checks, non_inferiority
from nxmi_export.parity.statistics import FamilyMember

__all__ = ["verdict"]

_NEEDED = (Stage.COMPRESSED, Stage.WRITTEN, Stage.SHIFTED, Stage.OPTIMIZED)


def verdict(result: ParityResult, gate: Gate, member: FamilyMember | None = None) -> Verdict:
    """Hold `result` to `gate`; conditions that could not be checked count as failed.

    `member` is the statistics of the deployed rung, corrected for the other dev sets of the run;
    None judges the result as the only one.
    """
    float16 = Check("float16 file", tuple(_float16_failures(result, gate)))
    packed = Check("INT4 file equal bit for bit", tuple(_packed_failures(result)))
    return Verdict(
        (
            Check("all rungs ran", tuple(_rung_failures(result))),
            Check("changed predictions explained", tuple(_change_failures(result, gate))),
            Check("CPU file equal bit for bit", tuple(_shift_failures(result))),
            Check("optimized kernels", tuple(_kernel_failures(result, gate))),
            *([float16] if _has_float16(result) else []),
            *([packed] if _has_packed(result) else []),
            *flip_checks(result, gate),
            Check("score", tuple(drop_failures(result, gate))),
            non_inferiority(result, gate, member),
            Check("stored weights", tuple(_weight_failures(result))),
            Check("manifest", tuple(_record_failures(result))),
            Check("logits explained", tuple(replay_failures(result, gate))),
            Check("batch sizes and padding", tuple(shape_failures(result, gate))),
            *probe_checks(result, gate),
            *drift_checks(result),
            *openvino_checks(result, gate),
            *engine_checks(result, gate),
        )
    )


def _rung_failures(result: ParityResult) -> Iterator[str]:
    needed = [*_NEEDED]
    needed += [Stage.FLOAT16] if _has_float16(result) else []
    needed += [Stage.INT4] if _has_packed(result) else []
    for stage in needed:
        if stage not in result.rungs:
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
    written = result.step(Stage.COMPRESSED, Stage.WRITTEN)
    if written is None:
        yield "Compressed PyTorch was not compared with the ONNX file as written."
    for step in (result.step(Stage.COMPRESSED, Stage.CAPTURED), written):
        if step is not None:
            yield from _unexplained(step, gate)


def _unexplained(step: Step, gate: Gate) -> Iterator[str]:
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
    yield from _differing_bits(step)


def _differing_bits(step: Step) -> Iterator[str]:
    comparison = step.comparison
    if comparison.different:
        yield (
            f"{comparison.candidate} gave other logits than {comparison.reference} for "
            f"{len(comparison.different)} of {comparison.examples} examples, where all must be "
            f"equal bit for bit; the first is example {comparison.different[0]}, and the largest "
            f"gap {comparison.largest_logit_gap:.2g}."
        )


def _kernel_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    deployed = result.step(Stage.COMPRESSED, Stage.OPTIMIZED)
    if deployed is not None and deployed.refuted:
        yield _refuted(deployed)
    step = result.step(Stage.WRITTEN, Stage.OPTIMIZED)
    if step is None:
        yield "ONNX optimized was not compared with the ONNX file as written."
        return
    comparison = step.comparison
    if not comparison.comparable or not comparison.examples:
        yield f"{comparison.candidate} cannot be compared with {comparison.reference}."
    elif step.refuted:
        yield _refuted(step)
    elif len(step.unexplained) > gate.max_kernel_changed * comparison.examples:
        yield (
            f"{comparison.candidate} changed {len(step.unexplained)} of {comparison.examples} "
            f"predictions of {comparison.reference} without an explanation, where "
            f"{gate.max_kernel_changed:.1%} may; example {step.unexplained[0]}: {_reason(step)}"
        )


def _refuted(step: Step) -> str:
    comparison, first = step.comparison, step.refuted[0]
    return (
        f"{comparison.candidate} changed {len(step.refuted)} of {comparison.examples} "
        f"predictions of {comparison.reference}, which no rounding tie explains; example "
        f"{first.index}: {first.reason}"
    )


def _has_float16(result: ParityResult) -> bool:
    """Whether the artefact has the file: its weights are compared whether it was run or not."""
    return FP16_MODEL in result.weights or Stage.FLOAT16 in result.rungs


def _float16_failures(result: ParityResult, gate: Gate) -> Iterator[str]:
    step = result.step(Stage.WRITTEN, Stage.FLOAT16)
    if step is None:
        yield "The float16 file was not compared with the ONNX file as written."
        return
    comparison = step.comparison
    if not comparison.comparable or not comparison.examples:
        yield f"{comparison.candidate} cannot be compared with {comparison.reference}."
    elif len(comparison.changes) > gate.max_float16_changed * comparison.examples:
        yield (
            f"{comparison.candidate} changed {len(comparison.changes)} of {comparison.examples} "
            f"predictions of {comparison.reference}, where {gate.max_float16_changed:.1%} may; the "
            f"first is example {comparison.changes[0].index}."
        )
    if Stage.FLOAT16 not in result.drift:
        yield "The layers of the float16 file were not compared with PyTorch's."


def _has_packed(result: ParityResult) -> bool:
    """Whether the artefact has the file: its weights are compared whether it was run or not."""
    return INT4_MODEL in result.weights or Stage.INT4 in result.rungs


def _packed_failures(result: ParityResult) -> Iterator[str]:
    source = Stage.FLOAT16 if _has_float16(result) else Stage.WRITTEN
    step = result.step(source, Stage.INT4)
    if step is None or not step.comparison.examples:
        yield "The INT4 file was not compared with the ONNX file that it was packed from."
        return
    yield from _differing_bits(step)


def _record_failures(result: ParityResult) -> Iterator[str]:
    """An export of an earlier version lacks records, and its graphs may be right all the same."""
    if result.records:
        yield (
            f"manifest.json says otherwise than the graphs in {len(result.records)} places, the "
            f"first being {result.records[0]}; export the model again."
        )


def _weight_failures(result: ParityResult) -> Iterator[str]:
    if not result.weights:
        yield "The stored weights were not compared."
    for name, weights in result.weights.items():
        if weights.mismatches:
            whose = f"; {weights.foreign}" if weights.foreign else ""
            yield (
                f"{name} differs from the PyTorch model in {len(weights.mismatches)} places, "
                f"the first being {weights.mismatches[0]}{whose}."
            )
        elif not weights.equal:
            yield f"{name}: no stored weight was compared, because the model has no linear layer."
