"""An artefact and a request in, every dev split run through the ladder, compared and judged out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from accelerate import Accelerator

from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, INT4_MODEL, MODEL, Artefact
from nxmi_export.compression.layers import weights_made_once
from nxmi_export.compression.training.processes import failing_together, join_processes
from nxmi_export.encoding import EncodedDataset
from nxmi_export.parity import (
    CodeAgreement,
    ParityResult,
    ParityRun,
    ShapeParity,
    Stage,
    WeightParity,
    code_agreement,
    judge_run,
    reach_of,
    replay_shapes,
    weight_parity,
)
from nxmi_export.parity.environment import run_environment
from nxmi_export.parity.weights import Mismatch
from nxmi_export.workflow.parity.bisecting import bisection, check_bisectable
from nxmi_export.workflow.parity.captured_graph import with_captured_graph
from nxmi_export.workflow.parity.climb import Climbed, climb, dev_splits_to_climb
from nxmi_export.workflow.parity.drifts import rung_drifts
from nxmi_export.workflow.parity.ladder import Ladder, spread
from nxmi_export.workflow.parity.layer_errors import check_layer_errors, layer_errors
from nxmi_export.workflow.parity.probing import probes_of, probes_to_climb
from nxmi_export.workflow.parity.records import record_mismatches, session_mismatches
from nxmi_export.workflow.parity.replays import Replays, replays
from nxmi_export.workflow.parity.request import OnProgress, ParityRequest
from nxmi_export.workflow.parity.source import unfamiliar_tasks
from nxmi_export.workflow.parity.steps import steps

__all__ = ["check_parity"]

_CODE_BATCH = 16  # examples, whose codes of all quantizers are held together


def check_parity(
    artefact: Artefact, request: ParityRequest, *, on_progress: OnProgress
) -> ParityRun | None:
    """Run every dev split of every task.

    The run, on the main process of a distributed launch; the others get None and report nothing.
    What it finds does not depend on the number of processes. Raises ArtefactError for a checkpoint
    that is gone or another, UsageError for a task that the head does not fit, and DataError for
    data that are not the task's, all before anything is run; what one process raises, all do.
    """
    accelerator = join_processes()
    tell = on_progress if accelerator.is_main_process else _silent
    with failing_together(accelerator):
        ladder = Ladder.open(artefact, request)
        check_bisectable(ladder)
        check_layer_errors(ladder)
    with failing_together(accelerator):
        stack = ExitStack()
        ladder = stack.enter_context(with_captured_graph(ladder))
    with stack:
        climbed = dev_splits_to_climb(ladder, _dev_splits(ladder, accelerator), tell)
        climbed += probes_to_climb(ladder, tell)
        with weights_made_once():
            climb(ladder, climbed, accelerator)
            known = [replays(ladder, each, accelerator) for each in climbed]
        # What is left is the main process's alone, and the others wait for nothing more: a
        # bisection may take longer than a process can be waited for.
        if accelerator.is_main_process:
            return _judged(ladder, climbed, known)
    return None


def _dev_splits(ladder: Ladder, accelerator: Accelerator) -> list[EncodedDataset]:
    """Tokenized by one process of each machine, where the others find it in the cache."""
    splits: list[EncodedDataset] = []
    for first in (True, False):
        with failing_together(accelerator):
            if accelerator.is_local_main_process is first:
                splits = ladder.dev_splits()
    return splits


def _judged(
    ladder: Ladder, climbed: Sequence[Climbed], known: Sequence[Mapping[Stage, Replays]]
) -> ParityRun:
    artefact, request = ladder.artefact, ladder.request
    weights = _weights(ladder)
    every = list(zip(climbed, known, strict=True))
    probed = (probes_of(ladder, *each, weights) for each in every if each[0].made_up)
    common = ParityResult(
        rungs={},
        weights=weights,
        records=tuple(_records(artefact, weights)),
        environment=run_environment(),
        probes=next(probed, None),
    )
    splits = [each for each in climbed if not each.made_up]
    results = [_result(ladder, *each, common) for each in every if not each[0].made_up]
    warnings = (*unfamiliar_tasks(artefact, request), *_cut_short(results, request.limit))
    run = judge_run(results, request.gate, warnings)
    localized = [
        replace(
            split.result,
            # With --drift every rung was localized before it was judged.
            drift=split.result.drift
            if request.drift or split.verdict.ok
            else rung_drifts(ladder, each),
            layer_errors=tuple(
                layer_errors(ladder, each, *pair) for pair in _pairs(request, drifting=drifting)
            ),
            bisection=bisection(ladder, each, request.bisect_budget)
            if request.bisect_budget is not None and each is _first_of_task(splits, each)
            else None,
        )
        for split, each in zip(run.splits, splits, strict=True)
        for drifting in [request.drift or not split.verdict.ok]
    ]
    return judge_run(localized, request.gate, warnings)


def _cut_short(results: Sequence[ParityResult], limit: int | None) -> Iterator[str]:
    for result in results:
        if result.dataset is not None and len(result.dataset) == limit:
            yield f"{result.name} was read no further than its first {limit} examples (--limit)."


def _pairs(request: ParityRequest, *, drifting: bool) -> tuple[tuple[Stage, Stage], ...]:
    usual = [(Stage.COMPRESSED, Stage.WRITTEN)] if drifting else []
    return tuple(dict.fromkeys((*usual, *request.layer_errors)))


def _first_of_task(climbed: Sequence[Climbed], split: Climbed) -> Climbed:
    """MNLI has two dev splits, and one recipe."""
    task = split.data.dataset.task
    return next(each for each in climbed if each.data.dataset.task is task)


def _weights(ladder: Ladder) -> dict[str, WeightParity]:
    named = ladder.artefact.manifest.files
    halved = {FP16_MODEL, INT4_MODEL} if FP16_MODEL in named else set()
    return {
        name: weight_parity(ladder.model, ladder.artefact.path(name), float16=name in halved)
        for name in (MODEL, CPU_MODEL, FP16_MODEL, INT4_MODEL)
        if name in {MODEL, CPU_MODEL} or name in named
    }


def _records(artefact: Artefact, weights: Mapping[str, WeightParity]) -> Iterator[Mismatch]:
    """What the manifest says otherwise; where weights differ it does as well, and they say more."""
    for name, told in ((MODEL, record_mismatches), (CPU_MODEL, session_mismatches)):
        if weights[name].equal:
            yield from told(artefact)


def _result(
    ladder: Ladder, climbed: Climbed, known: Mapping[Stage, Replays], common: ParityResult
) -> ParityResult:
    """`common` is what all dev splits share.

    Layers of the float16 file are always held against PyTorch's. Its rung is judged by predictions,
    as rounding moves every code behind the first quantizer, and few of these change where a layer
    computes something else.
    """
    probes = common.probes
    stages = tuple(Stage) if ladder.request.drift else (Stage.FLOAT16,)
    return replace(
        common,
        rungs=climbed.rungs,
        steps=steps(climbed, known, ladder.request.gate.terms),
        shapes=tuple(_shapes(ladder, climbed)),
        codes=_codes(ladder, climbed),
        unproven=climbed.unproven,
        drift=rung_drifts(ladder, climbed, stages),
        probes=None if probes is None else replace(probes, dev_set=reach_of(climbed.data)),
    )


def _shapes(ladder: Ladder, climbed: Climbed) -> Iterator[ShapeParity]:
    for stage, found in climbed.shapes.items():
        assert climbed.shaped is not None  # it is what was found in shapes
        if found.observable:
            found = replay_shapes(ladder.observed(stage, climbed.rungs), climbed.shaped, found)
        yield found


def _codes(ladder: Ladder, climbed: Climbed) -> tuple[CodeAgreement, ...]:
    indices = spread(len(climbed.data), ladder.request.code_examples)
    if not len(indices) or ladder.artefact.manifest.recipe is None:
        return ()
    return code_agreement(
        ladder.model,
        ladder.artefact.path(MODEL),
        climbed.data,
        indices=indices,
        batch_size=_CODE_BATCH,
        on_batch=partial(climbed.on_progress, "activation codes"),
    )


def _silent(what: str, done: int, total: int) -> None:
    """The processes beside the main one report nothing."""
