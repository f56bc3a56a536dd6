"""A dev split that was run in, where each of its ONNX rungs drifts from PyTorch out."""

from collections.abc import Collection, Mapping
from functools import partial

from nxmi_export.parity import Stage
from nxmi_export.parity.drift import (
    RungDrift,
    check_fusions,
    localize,
)
from nxmi_export.workflow.parity.climb import Climbed
from nxmi_export.workflow.parity.ladder import NAMES, Ladder, spread

__all__ = ["rung_drifts"]

_BATCH = 8  # examples, whose values at every point are held together


def rung_drifts(
    ladder: Ladder, climbed: Climbed, stages: Collection[Stage] = tuple(Stage)
) -> Mapping[Stage, RungDrift]:
    """Localize drift over a few examples, spread over the split; memory is one small batch.

    Of `stages`, those that the ladder has as files. Rungs that run as written are localized by
    forced replay; the optimized rung is held against `model.onnx` as written. Probes are long, and
    run one by one.
    """
    order = spread(len(climbed.data), ladder.request.drift_examples)
    if not len(order):
        return {}
    batch = 1 if climbed.made_up else _BATCH
    found: dict[Stage, RungDrift] = {}
    for stage, file in ladder.files.items():
        if stage not in stages:
            continue
        tell = partial(climbed.on_progress, f"localizing drift, {NAMES[stage]}")
        if file.optimized:
            if any(not each.found.examples for each in found.values()):
                continue  # the files lack a quantizer, which is then the fault that was found
            fusions = check_fusions(
                ladder.model,
                ladder.files[Stage.WRITTEN].path,
                file.path,
                climbed.data,
                batch_size=batch,
                order=order,
                threads=ladder.threads,
                entries=file.entries,
                on_batch=tell,
            )
            found[stage] = RungDrift(fusions)
        else:
            place = localize(
                ladder.model,
                file.path,
                climbed.data,
                batch_size=batch,
                order=order,
                threads=ladder.threads,
                # What was captured holds float weights and quantizes them as it runs.
                ignored=("storage",) if stage is Stage.CAPTURED else (),
                float16=stage is Stage.FLOAT16,
                on_batch=tell,
            )
            found[stage] = RungDrift(place)
    return {stage: found[stage] for stage in Stage if stage in found}
