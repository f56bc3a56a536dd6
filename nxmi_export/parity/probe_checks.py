"""What came of the probes, held to a gate: forced replay where codes show, bits where they must."""

from collections.abc import Iterator

from nxmi_export.parity.gate import Check, Gate
from nxmi_export.parity.ladder import Stage
from nxmi_export.parity.result import ParityResult, Probes, Step

__all__ = ["probe_checks", "probe_failures"]

_NAME = "probes beyond the dev set"
_NEEDED = (Stage.WRITTEN, Stage.OPTIMIZED)
# Of the codes of a float16 file's first quantizer, those that roundings before it may tip over to
# their neighbour. Each moves a value by a sixteenth of a step at most, and so many of the values
# are as close to a tie. Four of them, all at their most, are far more than was ever seen, also
# where whole blocks in float16 come first.
_TIPPED = 4 / 16


def probe_checks(result: ParityResult, gate: Gate) -> Iterator[Check]:
    """One condition; none where no probe ran and the gate does not ask for them."""
    probes = result.probes
    if probes is None:
        if gate.require_probes:
            yield Check(_NAME, ("No probe was run: what the dev set does not reach is unknown.",))
        return
    failures = (*_absent(result, probes), *probe_failures(probes))
    reached, positions = probes.reach.tokens, probes.sizes.positions
    if reached >= positions:
        yield Check(_NAME, failures)
        return
    doubt = (
        f"Probes reach {reached} of the model's {positions} positions; nothing is known of the "
        "others."
    )
    yield Check(_NAME, (*failures, doubt) if gate.strict else failures, undecided=doubt)


def probe_failures(probes: Probes) -> Iterator[str]:
    """One sentence for each rung that PyTorch does not replay, and the cause where it is known."""
    for step in probes.steps:
        yield from _step_failures(step, probes)
    rounded = probes.float16
    if rounded is not None and rounded.worse:
        yield (
            f"The float16 file gives {rounded.worse} of {rounded.total} codes of {rounded.module} "
            "more than one step away from PyTorch's on the probes, where rounding to float16 "
            "accounts for one."
        )
    elif rounded is not None and not rounded.rate >= 1 - _TIPPED:
        yield (
            f"The float16 file gives {rounded.off_by_one} of {rounded.total} codes of "
            f"{rounded.module} one step away from PyTorch's on the probes, where rounding to "
            f"float16 accounts for {_TIPPED:.0%} at most."
        )
    yield from _float16_failures(probes)
    names = {step.candidate: step.comparison.candidate for step in probes.steps}
    for stage, drift in probes.drift.items():
        if not drift.explained:
            cause = drift.attribution
            told = f" ({cause.cause.value}). {cause.reason}" if cause is not None else "."
            yield f"{names[stage]} drifts from PyTorch on probes at {drift.first_layer}{told}"


def _step_failures(step: Step, probes: Probes) -> Iterator[str]:
    comparison = step.comparison
    every = (*step.explanations, *step.replayed)
    refused = [each for each in every if not each.explained]
    if not comparison.comparable:
        yield f"{comparison.candidate} gave NaN or infinite logits on the probes."
    elif step.reference is not Stage.COMPRESSED:
        # float16 rounds: its codes are judged, and not its bits.
        if step.candidate is not Stage.FLOAT16 and comparison.different:
            yield (
                f"{comparison.candidate} gave other logits than {comparison.reference} for "
                f"{len(comparison.different)} of {comparison.examples} probes, where all must be "
                "equal bit for bit."
            )
    elif len(every) < comparison.examples:
        yield f"{comparison.candidate}: {len(every)} of {comparison.examples} probes were replayed."
    elif refused:
        first = min(refused, key=lambda each: each.index)
        yield (
            f"{comparison.candidate} gives other logits than {comparison.reference} for "
            f"{len(refused)} of {comparison.examples} probes, made-up inputs of up to "
            f"{probes.reach}, which no rounding tie explains; the dev set reaches "
            f"{probes.dev_set}. Probe {first.index}: {first.reason}"
        )


def _float16_failures(probes: Probes) -> Iterator[str]:
    """Of a float16 file that ran and whose codes were not compared."""
    steps = (step for step in probes.steps if step.candidate is Stage.FLOAT16)
    step = next(steps, None)
    if step is None or probes.float16 is not None:
        return
    gap, allowed = step.comparison.largest_logit_gap, probes.float16_gap
    if allowed is None:
        yield (
            "No code of the float16 file was compared on the probes, because its weights or its "
            "quantizers are not those of the model."
        )
    elif not gap <= allowed:
        yield (
            f"The float16 file gives logits on the probes that lie {gap:.2g} from those of "
            f"{step.comparison.reference}, where rounding to float16 accounts for {allowed:.2g}."
        )


def _absent(result: ParityResult, probes: Probes) -> Iterator[str]:
    """Rungs that ran the dev set and not the probes; the engine and the dense model do not."""
    ran = {step.candidate for step in probes.steps}
    beside = {Stage.CAPTURED, Stage.SHIFTED, Stage.FLOAT16, Stage.INT4} & result.rungs.keys()
    for stage in Stage:
        if stage in {*_NEEDED, *beside} - ran:
            yield f"The rung {stage.value!r} was not run on the probes."
