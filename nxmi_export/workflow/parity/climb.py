"""Dev splits in, what every rung made of each of them out.

One rung runs all splits before the next is opened: a session is made once however many tasks there
are, and never are two of them in memory. The processes of a launch share its batches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from accelerate import Accelerator

from nxmi_export.backends import Runner
from nxmi_export.compression.training.processes import failing_together, told_by_all
from nxmi_export.encoding import EncodedDataset
from nxmi_export.parity import (
    RungResult,
    ShapeParity,
    Stage,
    Unproven,
    rung_of,
    shape_parity,
    shared_logits,
)
from nxmi_export.parity.left_padding import few_lengths, left_padding, mixed_lengths
from nxmi_export.workflow.parity.engine_rung import engine_runner
from nxmi_export.workflow.parity.ladder import NAMES, OF_THE_FIRST, Ladder, spread
from nxmi_export.workflow.parity.request import OnProgress

__all__ = ["Climbed", "climb", "dev_splits_to_climb", "named"]

_BATCH_SIZES = (8, 1, 32)  # the first is what the others are compared with
_PADDED = (64, 128, 256)  # and the position table's whole length
_SHAPED = (Stage.WRITTEN, Stage.OPTIMIZED, Stage.OPENVINO)
# Compression is meant to change the model; OpenVINO and an engine show no codes to replay.
_WITHOUT_PROBES = (Stage.DENSE, Stage.OPENVINO, Stage.ENGINE)


@dataclass
class Climbed:
    """One dev split, or the probes, and, rung by rung, what was made of it."""

    data: EncodedDataset
    first: EncodedDataset  # what the rungs of `OF_THE_FIRST` run
    batch_tokens: int  # of a batch at most
    on_progress: OnProgress
    made_up: bool = False  # whether these are the probes
    rungs: dict[Stage, RungResult] = field(default_factory=dict)
    # The written rung over `first`: other batches are other sums, and only the same ones can be
    # equal bit for bit.
    written_first: RungResult | None = None
    shaped: EncodedDataset | None = None  # the examples of `shapes`
    shapes: dict[Stage, ShapeParity] = field(default_factory=dict)
    unproven: dict[Stage, Unproven] = field(default_factory=dict)


def dev_splits_to_climb(
    ladder: Ladder, splits: Sequence[EncodedDataset], on_progress: OnProgress
) -> list[Climbed]:
    """Every split at the foot of the ladder; progress says which it is about if there are many."""
    return [
        Climbed(
            data,
            data.select(np.arange(min(ladder.request.shift_examples, len(data)))),
            ladder.request.batch_tokens,
            named(_where(data), on_progress) if len(splits) > 1 else on_progress,
        )
        for data in splits
    ]


def named(where: str, on_progress: OnProgress) -> OnProgress:
    """Progress that says what it is about."""
    return lambda what, done, total: on_progress(f"{where}: {what}", done, total)


def climb(ladder: Ladder, climbed: Sequence[Climbed], accelerator: Accelerator) -> None:
    """Run the whole ladder over all of them; shapes are compared in the main process alone."""
    for stage in ladder.stages:
        those = [each for each in climbed if not (each.made_up and stage in _WITHOUT_PROBES)]
        backend = _backend(ladder, stage, those, accelerator)
        if isinstance(backend, Unproven):
            for each in those:
                each.unproven[stage] = backend
            continue
        with backend:
            for each in those:
                runner = ladder.for_task(each.data.dataset.task, stage, backend)
                _step_up(ladder, stage, runner, each, accelerator)
                with failing_together(accelerator):
                    if stage in _SHAPED and not each.made_up and accelerator.is_main_process:
                        _shapes(ladder, stage, runner, each)


def _backend(
    ladder: Ladder, stage: Stage, climbed: Iterable[Climbed], accelerator: Accelerator
) -> Runner | Unproven:
    """What executes a rung in this process; the reason where it cannot run in all of them."""
    backend: Runner | Unproven
    with failing_together(accelerator):
        if stage is Stage.ENGINE:
            longest = max(int(each.data.lengths.max(initial=0)) for each in climbed)
            backend = engine_runner(ladder.artefact, NAMES[stage], longest)
        else:
            backend = ladder.backend(stage)
    own = backend if isinstance(backend, Unproven) else None
    reasons = [each for each in told_by_all(accelerator, own) if each is not None]
    if not reasons or isinstance(backend, Unproven):
        return backend
    with backend:  # which gives its memory back
        return reasons[0]  # type: ignore[no-any-return]


def _where(data: EncodedDataset) -> str:
    return f"{data.dataset.task.name} {data.dataset.split}"


def _step_up(
    ladder: Ladder, stage: Stage, runner: Runner, each: Climbed, accelerator: Accelerator
) -> None:
    tokens = each.batch_tokens

    def run(data: EncodedDataset) -> RungResult:
        logits = shared_logits(
            runner,
            data,
            batch_tokens=tokens,
            accelerator=accelerator,
            on_batch=partial(each.on_progress, NAMES[stage]),
        )
        return rung_of(runner.name, data.dataset, logits, tokens)

    each.rungs[stage] = run(each.first if stage in OF_THE_FIRST else each.data)
    if stage is Stage.WRITTEN and any(later in ladder.stages for later in OF_THE_FIRST):
        whole = len(each.first) == len(each.data)
        each.written_first = each.rungs[stage] if whole else run(each.first)


def _shapes(ladder: Ladder, stage: Stage, runner: Runner, each: Climbed) -> None:
    sample = each.data.select(spread(len(each.data), ladder.request.shape_examples))
    if not len(sample):
        return
    each.shaped = sample
    longest, limit = int(sample.lengths.max()), ladder.artefact.manifest.position_limit
    lengths = {length for length in (*_PADDED, limit) if longest < length <= limit}
    found = shape_parity(
        runner,
        sample,
        batch_sizes=_BATCH_SIZES,
        pad_to=sorted(lengths),
        on_setting=partial(each.on_progress, f"shapes, {NAMES[stage]}"),
    )
    observable = stage in ladder.observable
    # All of them where no replay can say of a few what they are worth.
    batches = [few_lengths(sample)] if observable else mixed_lengths(sample, _BATCH_SIZES[0])
    task = each.data.dataset.task
    pytorch = ladder.for_task(task, Stage.COMPRESSED, ladder.backend(Stage.COMPRESSED))
    # Examples of one length have no padding to move, and such a run would show nothing.
    padded = any(not batch.feeds["attention_mask"].all() for batch in batches)
    left = (left_padding(runner, pytorch, sample, batches),) if padded else ()
    each.shapes[stage] = replace(found, settings=(*found.settings, *left), observable=observable)
