"""Whole parity results of made-up logits, and the artefact they would be about."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from parity_models import rung

from nxmi_export.artefact import Artefact, LinearRecord
from nxmi_export.parity import (
    CodeAgreement,
    Explanation,
    ParityResult,
    Probes,
    Reach,
    RungResult,
    ShapeParity,
    Sizes,
    Stage,
    Step,
    WeightParity,
    compare,
    score_statistics,
)
from nxmi_export.parity.shapes import ShapeSetting
from nxmi_export.parity.statistics import Terms
from tests.sample_manifest import sample_manifest

RIGHT = [[1, 0], [0, 1]]  # for the labels 0, 1, 0, 1, …
EXAMPLES = 2000
LOGITS = np.array(RIGHT * (EXAMPLES // 2), np.float32)
REPLAYED = (Explanation(5, True, "No code differs."),)
SHAPES = (ShapeParity("onnx", 200, (ShapeSetting(8, None, 0, 0.0, replays=REPLAYED),)),)
WEIGHTS = {"model.onnx": WeightParity(14, 12, 12, 20, (), parameters=13)}


def probes_of(*beside: Stage, reached: int = 64, refused: str = "") -> Probes:
    """Five probes on every rung, the second of which PyTorch does not replay where `refused`.

    Rungs `beside` these gave the bits of `model.onnx`.
    """
    replayed = tuple(
        Explanation(index, not refused or index != 1, refused or "No code differs.")
        for index in range(5)
    )
    names = {Stage.WRITTEN: "written", Stage.SHIFTED: "shifted", Stage.OPTIMIZED: "optimized"}
    rungs = {stage: rung(LOGITS[:5], name=name) for stage, name in names.items()}
    rungs[Stage.COMPRESSED] = rung(LOGITS[:5], name="pytorch")
    rungs |= {stage: rung(LOGITS[:5], name=stage.value) for stage in beside}
    pairs: list[tuple[Stage, Stage, tuple[Explanation, ...]]] = [
        (Stage.COMPRESSED, Stage.WRITTEN, replayed),
        (Stage.COMPRESSED, Stage.OPTIMIZED, replayed),
        *((Stage.WRITTEN, stage, ()) for stage in (Stage.SHIFTED, *beside)),
    ]
    steps = (
        Step(one, other, compare(rungs[one], rungs[other]), replayed=each)
        for one, other, each in pairs
    )
    return Probes(
        Sizes(64, 96, 2),
        Reach(5, reached, 90, (0, 1)),
        Reach(200, 20, 30, (0,)),
        tuple(steps),
        float16=CodeAgreement("embeddings", 100) if Stage.FLOAT16 in beside else None,
    )


def result_of(
    written: RungResult,
    optimized: RungResult | None = None,
    shifted: RungResult | None = None,
    terms: Terms | None = None,
) -> ParityResult:
    """A run of all rungs over as many examples as `written` has.

    Compressed PyTorch has every example right; rungs that are not given are as `written`.
    """
    count, task = len(written.dataset), written.dataset.task.name
    rungs = {
        Stage.COMPRESSED: rung(LOGITS[:count], name="pytorch", task=task),
        Stage.WRITTEN: written,
        Stage.SHIFTED: shifted or replace(written, name="shifted"),
        Stage.OPTIMIZED: optimized or replace(written, name="optimized"),
    }
    pairs = (
        (Stage.COMPRESSED, Stage.WRITTEN),
        (Stage.COMPRESSED, Stage.OPTIMIZED),
        (Stage.WRITTEN, Stage.SHIFTED),
        (Stage.WRITTEN, Stage.OPTIMIZED),
    )
    steps = (
        Step(
            one,
            other,
            compare(rungs[one], rungs[other]),
            statistics=None
            if other is Stage.SHIFTED
            else score_statistics(rungs[one], rungs[other], terms or Terms()),
            replayed=REPLAYED if one is Stage.COMPRESSED else (),
        )
        for one, other in pairs
    )
    return ParityResult(rungs, tuple(steps), WEIGHTS, SHAPES, probes=probes_of())


def with_wrong(
    count: int, name: str = "optimized", *, examples: int = EXAMPLES, task: str = "sst2"
) -> RungResult:
    """A rung that has all but the first `count` examples right."""
    logits = LOGITS[:examples].copy()
    logits[:count] = logits[:count, ::-1]
    return rung(logits, name=name, task=task)


def deployed(wrong: int, *, examples: int = EXAMPLES, task: str = "sst2") -> ParityResult:
    """A result whose optimized rung alone has examples wrong."""
    right = with_wrong(0, "written", examples=examples, task=task)
    return result_of(right, with_wrong(wrong, examples=examples, task=task))


def artefact_storing(*storages: str) -> Artefact:
    """An artefact whose linears are stored like this; it is nowhere on the disk."""
    linears = {
        f"layer.{number}": LinearRecord(storage=storage, inputs=4, outputs=4, zeros=0.5)
        for number, storage in enumerate(storages)
    }
    return Artefact(Path("model.artefact"), sample_manifest(linears))
