"""Changed predictions in, an explanation of each out: rounding ties, or a fault and its place.

PyTorch and onnxruntime add the terms of a dot product in different orders. Their float32 sums then
differ in the last bits, and where a value lies at the tie between two INT8 codes, that decides
which of them it gets. From there on everything differs, and now and then a prediction. That much
is explained; anything else is not (see `tie_replay` and `judge`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from nxmi_export.backends import Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.encoding import EncodedDataset
from nxmi_export.glue import predict
from nxmi_export.parity.explanation import Explanation
from nxmi_export.parity.graph_quantizers import GraphQuantizer, open_graph, pair_quantizers
from nxmi_export.parity.ladder import Comparison, RungResult
from nxmi_export.parity.logits import Float32Array, changed, non_finite_rows
from nxmi_export.parity.noise import LogitNoise
from nxmi_export.parity.replay import logits_with_visits
from nxmi_export.parity.rerun import Rows, same_bits, same_predictions
from nxmi_export.parity.tie_replay import Findings, TieReplay

__all__ = [
    "Observed",
    "explain",
    "explain_unobserved",
    "explanation_of",
    "objection_to_other_logits",
]


@dataclass(frozen=True)
class Observed:
    """Two rungs whose codes can be read: PyTorch, and an ONNX file of it."""

    model: nn.Module
    onnx_path: Path
    reference: RungResult  # of `model`
    candidate: RungResult  # of `onnx_path`
    threads: int | None = None  # of the candidate's runner, so that its sums are repeated
    label_order: tuple[int, ...] | None = None  # the model's output of each label; None: as it is
    optimized: bool = False  # how the candidate ran: its codes alone are then read, no floats
    entries: Mapping[str, str] = field(default_factory=dict)  # of an optimized session

    def open(
        self, quantizers: Mapping[str, tuple[GraphQuantizer, ...]], *, floats: bool
    ) -> OnnxRuntimeRunner:
        """The candidate again, the codes among its outputs, and what they are of with `floats`.

        Codes are integers that fused kernels make too, so that reading them leaves fusions alone;
        floats would block them.
        """
        read = [quantizer for each in quantizers.values() for quantizer in each]
        tensors = [quantizer.codes for quantizer in read]
        tensors += [quantizer.value for quantizer in read] if floats else []
        return OnnxRuntimeRunner(
            self.onnx_path,
            optimize=self.optimized,
            threads=self.threads,
            extra_outputs=tuple(dict.fromkeys(tensors)),
            entries=self.entries,
        )


def explain(
    observed: Observed,
    data: EncodedDataset,
    indices: Sequence[int],
    *,
    on_example: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Explanation, ...]:
    """Explain these examples, in the order given; `on_example` gets those done and their total.

    Each runs again as it ran in its batch (see `Rows.run_again`). Peak memory is every quantized
    value of one batch at most, as float32 and codes. Raises ArtefactError for a file that cannot
    be read.
    """
    if not indices:
        return ()
    pairing = pair_quantizers(observed.model, open_graph(observed.onnx_path).graph)
    if pairing.complaint:
        return tuple(Explanation(index, False, f"{pairing.complaint}.") for index in indices)
    wanted = set(indices)
    found: dict[int, Explanation] = {}
    quantizers = pairing.require(observed.onnx_path)
    with observed.open(quantizers, floats=not observed.optimized) as runner:
        for together in data.bucketed(observed.candidate.batch_tokens):
            rows = [row for row, index in enumerate(together) if int(index) in wanted]
            if not rows:
                continue
            again = Rows(data.batch(together), rows)
            outputs = again.run_again(
                runner.run, observed.candidate, observed.label_order, same=same_bits
            )
            for explanation in _explain_rows(observed, quantizers, outputs, again):
                found[explanation.index] = explanation
                on_example(len(found), len(wanted))
    return tuple(found[index] for index in indices)


def explain_unobserved(
    comparison: Comparison, written: RungResult, explanations: Sequence[Explanation]
) -> tuple[Explanation, ...]:
    """Explanations for a rung whose codes cannot be read (OpenVINO, an engine).

    A change that the rung `written` shows as well takes over that rung's explanation; any other is
    reported as not observable.
    """
    known = {explanation.index: explanation for explanation in explanations}
    task = written.dataset.task
    result = []
    for change in comparison.changes:
        explanation = known.get(change.index)
        if (
            explanation is None
            or written.predictions is None
            or changed(task, written.predictions[[change.index]], np.array([change.after])).any()
        ):
            reason = f"The codes inside {comparison.candidate} are not observable."
            explanation = Explanation(change.index, None, reason)
        result.append(explanation)
    return tuple(result)


def _explain_rows(
    observed: Observed,
    quantizers: Mapping[str, tuple[GraphQuantizer, ...]],
    outputs: Outputs,  # of the rows
    again: Rows,
) -> Iterator[Explanation]:
    feeds = again.feeds
    runner = TorchRunner(observed.model, tuple(feeds))
    # Of this run nothing but the predictions is asked.
    free = again.run_again(
        runner.run, observed.reference, observed.label_order, same=same_predictions
    )["logits"]
    order = slice(None) if observed.label_order is None else list(observed.label_order)
    noise = LogitNoise.of_model(observed.model)
    replay = TieReplay(quantizers, outputs, feeds["attention_mask"], noise.widest)
    forced = logits_with_visits(observed.model, feeds, replay.visit)
    for row, (index, findings) in enumerate(zip(again.indices, replay.findings, strict=True)):
        objection = _objection_to_rerun(
            observed.reference, index, free[row][order]
        ) or objection_to_other_logits(
            observed.candidate.name,
            index,
            observed.candidate.logits[index],
            outputs["logits"][row][order],
            noise,
        )
        logits = forced[row], outputs["logits"][row]
        yield explanation_of(index, findings, quantizers, logits, noise, objection)


def explanation_of(
    index: int,
    findings: Findings,
    quantizers: Mapping[str, tuple[GraphQuantizer, ...]],
    logits: tuple[Float32Array, Float32Array],
    noise: LogitNoise,
    objection: str | None = None,
) -> Explanation:
    """What the replay of one example says; `logits` are those forced in PyTorch, and the graph's.

    An `objection` from elsewhere comes before all others.
    """
    objection = (
        objection
        or findings.objection
        or _objection_to_coverage(findings, quantizers)
        or _objection_to_logits(*logits, noise)
    )
    return Explanation(
        index=index,
        explained=objection is None,
        reason=f"{objection or _explanation(findings)}.",
        first_difference=findings.first,
        differing_codes=findings.differing,
        largest_gap=findings.largest_gap,
    )


def objection_to_other_logits(
    name: str, index: int, reported: Float32Array, again: Float32Array, noise: LogitNoise
) -> str | None:
    """An explanation of other logits than were reported is none, whatever it finds in them.

    Reading codes opens another session, and a fault that shows in the first alone would vanish.
    """
    gap = _gap(reported, again)
    if gap <= noise.of(reported):
        return None
    return (
        f"{name} gave logits for example {index} that lie {gap:.2g} from those it gives when its "
        "codes are read"
    )


def _objection_to_rerun(rung: RungResult, index: int, logits: Float32Array) -> str | None:
    """PyTorch's sums depend on the batch, so that its ties may tip: its prediction must hold."""
    task = rung.dataset.task
    if rung.predictions is None or len(non_finite_rows(logits[np.newaxis])):
        return f"{rung.name} has no finite logits for example {index}"
    again = predict(task, logits[np.newaxis])
    if changed(task, rung.predictions[[index]], again).any():
        return (
            f"{rung.name} gave {rung.predictions[index]:g} for example {index} and "
            f"{again[0]:g} when it ran again"
        )
    return None


def _objection_to_coverage(
    findings: Findings, quantizers: Mapping[str, tuple[GraphQuantizer, ...]]
) -> str | None:
    for module, graphs in sorted(quantizers.items()):
        runs = sum(judged == module for judged, _ in findings.judged)
        if not runs:
            return f"the PyTorch model never ran {module}"
        if runs < len(graphs):
            return f"the PyTorch model ran {module} on {runs} of the graph's {len(graphs)} values"
    return None


def _objection_to_logits(
    reference: Float32Array, candidate: Float32Array, noise: LogitNoise
) -> str | None:
    """From equal codes, the rest of the network must give equal logits up to noise."""
    gap = _gap(reference, candidate)
    allowed = noise.of(reference)
    if gap <= allowed:
        return None
    return (
        f"from equal codes the logits lie {gap:.2g} apart where summation order "
        f"accounts for {allowed:.2g}"
    )


def _gap(reference: Float32Array, candidate: Float32Array) -> float:
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is no agreement
        return float(np.abs(candidate.astype(np.float64) - reference).max())


def _explanation(findings: Findings) -> str:
    if findings.first is None:
        return "No code differs and the logits agree up to summation order"
    text = f"The first differing code is a rounding tie ({findings.first})"
    return f"{text}, as are all {findings.differing}" if findings.differing > 1 else text
