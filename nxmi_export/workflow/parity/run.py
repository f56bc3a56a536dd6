"""An artefact and a request in, every dev split run through the ladder, compared and judged out."""

from collections.abc import Mapping, Sequence
from functools import partial

from accelerate import Accelerator

from nxmi_export.artefact import CPU_MODEL, MODEL, Artefact
from nxmi_export.compression.training.processes import failing_together, join_processes
from nxmi_export.encoding import EncodedDataset
from nxmi_export.parity import (
    CodeAgreement,
    Explanation,
    ParityResult,
    ParityRun,
    Stage,
    Step,
    WeightParity,
    code_agreement,
    compare,
    explain_unobserved,
    judge_run,
    score_statistics,
    weight_parity,
)
from nxmi_export.parity.environment import run_environment
from nxmi_export.workflow.parity.changes import explained_changes
from nxmi_export.workflow.parity.climb import Climbed, climb
from nxmi_export.workflow.parity.ladder import Ladder, spread
from nxmi_export.workflow.parity.request import OnProgress, ParityRequest
from nxmi_export.workflow.parity.source import unfamiliar_tasks

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
    climbed = climb(ladder, _dev_splits(ladder, accelerator), accelerator, tell)
    explanations = [explained_changes(ladder, each, accelerator) for each in climbed]
    with failing_together(accelerator):
        if accelerator.is_main_process:
            return _judged(ladder, climbed, explanations)
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
    ladder: Ladder, climbed: Sequence[Climbed], explanations: Sequence[tuple[Explanation, ...]]
) -> ParityRun:
    artefact, request = ladder.artefact, ladder.request
    weights = {
        name: weight_parity(ladder.model, artefact.path(name)) for name in (MODEL, CPU_MODEL)
    }
    results = [
        _result(ladder, each, reasons, weights)
        for each, reasons in zip(climbed, explanations, strict=True)
    ]
    return judge_run(results, request.gate, unfamiliar_tasks(artefact, request))


def _result(
    ladder: Ladder,
    climbed: Climbed,
    explanations: tuple[Explanation, ...],
    weights: Mapping[str, WeightParity],
) -> ParityResult:
    return ParityResult(
        rungs=climbed.rungs,
        steps=(*_steps(ladder, climbed, explanations), *_shift(climbed)),
        weights=weights,
        shapes=tuple(climbed.shapes),
        codes=_codes(ladder, climbed),
        environment=run_environment(),
    )


def _steps(
    ladder: Ladder, climbed: Climbed, explanations: tuple[Explanation, ...]
) -> tuple[Step, ...]:
    rungs = climbed.rungs
    compressed, written, optimized = (
        rungs[stage] for stage in (Stage.COMPRESSED, Stage.WRITTEN, Stage.OPTIMIZED)
    )
    inherited = explain_unobserved(compare(compressed, optimized), written, explanations)
    pairs = [
        (Stage.COMPRESSED, Stage.WRITTEN, explanations),
        (Stage.COMPRESSED, Stage.OPTIMIZED, inherited),
        # What the kernels alone change; it is counted, because their codes cannot be read.
        (Stage.WRITTEN, Stage.OPTIMIZED, ()),
    ]
    if Stage.DENSE in rungs:
        # Compression is meant to change the model, so there is nothing to explain.
        pairs.insert(0, (Stage.DENSE, Stage.COMPRESSED, ()))
    return tuple(
        Step(
            before,
            after,
            compare(rungs[before], rungs[after]),
            reasons,
            score_statistics(rungs[before], rungs[after], ladder.request.gate.terms),
        )
        for before, after, reasons in pairs
    )


def _shift(climbed: Climbed) -> tuple[Step, ...]:
    """No statistics: both must give equal logits, bit for bit."""
    written, shifted = climbed.written_first, climbed.rungs.get(Stage.SHIFTED)
    if written is None or shifted is None:
        return ()
    return (Step(Stage.WRITTEN, Stage.SHIFTED, compare(written, shifted)),)


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
