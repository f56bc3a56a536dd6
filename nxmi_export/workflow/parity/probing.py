"""A ladder in, its probes ready to climb it, and what came of them, out."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from nxmi_export.artefact import FP16_MODEL
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.parity import (
    CodeAgreement,
    Probes,
    Stage,
    WeightParity,
    code_agreement,
    reach_of,
)
from nxmi_export.parity.noise import LogitNoise
from nxmi_export.parity.probe_checks import probe_failures
from nxmi_export.workflow.parity.climb import Climbed, named
from nxmi_export.workflow.parity.drifts import rung_drifts
from nxmi_export.workflow.parity.ladder import Ladder
from nxmi_export.workflow.parity.replays import Replays
from nxmi_export.workflow.parity.request import OnProgress
from nxmi_export.workflow.parity.steps import probe_steps

__all__ = ["probes_of", "probes_to_climb"]


def probes_to_climb(ladder: Ladder, on_progress: OnProgress) -> Iterator[Climbed]:
    """The probes at the foot of the ladder; none where none were asked for.

    The longest have a batch each, so that memory is that of one.
    """
    data = ladder.probes()
    if data is not None:
        longest = int(data.lengths.max())
        yield Climbed(data, data, longest, named(data.dataset.split, on_progress), made_up=True)


def probes_of(
    ladder: Ladder,
    climbed: Climbed,
    known: Mapping[Stage, Replays],
    weights: Mapping[str, WeightParity],
) -> Probes:
    """What came of them; where that fails, each rung's first fault is localized on the probes.

    Codes of a float16 file are read where it stores the right weights: else that is the fault.
    What the dev set reaches is not known here, and said to be nothing.
    """
    nothing = climbed.data.select(np.zeros(0, np.int64))
    probes = Probes(
        sizes=ladder.sizes,
        reach=reach_of(climbed.data),
        dev_set=reach_of(nothing),
        steps=probe_steps(climbed, known),
        float16=next(_float16(ladder, climbed), None) if _halved(weights) else None,
        float16_gap=_float16_gap(ladder, climbed),
        drift=rung_drifts(ladder, climbed, (Stage.FLOAT16,)),
    )
    if any(probe_failures(probes)):
        return replace(probes, drift=rung_drifts(ladder, climbed))
    return probes


def _float16_gap(ladder: Ladder, climbed: Climbed) -> float | None:
    """What float16 accounts for in logits, where no quantizer shows how far its codes are."""
    if any(isinstance(module, ActivationQuantizer) for module in ladder.model.modules()):
        return None
    written = climbed.written_first or climbed.rungs[Stage.WRITTEN]
    return LogitNoise.of_model(ladder.model).of_float16(written.logits)


def _halved(weights: Mapping[str, WeightParity]) -> bool:
    return FP16_MODEL in weights and weights[FP16_MODEL].equal


def _float16(ladder: Ladder, climbed: Climbed) -> Iterator[CodeAgreement]:
    """Of each quantizer, in order of execution.

    Up to the first both sides started from the same ids, behind it they drift apart.
    """
    if Stage.FLOAT16 in climbed.rungs:
        yield from code_agreement(
            ladder.model,
            ladder.files[Stage.FLOAT16].path,
            climbed.data,
            indices=np.arange(len(climbed.data)),
            batch_size=1,  # so that there is no padding, whose codes nobody cares for
        )
