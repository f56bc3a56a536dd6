"""An artefact in, what the product says of it out: refused, failed with sentences, or passed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, MODEL, read_artefact
from nxmi_export.certificate import read_certificate
from nxmi_export.errors import NxmiError
from nxmi_export.glue import Task
from nxmi_export.parity import Gate, ParityResult, ParityRun, Stage
from nxmi_export.parity.document import run_document
from nxmi_export.parity.run import SplitParity
from nxmi_export.workflow.inspect import inspect
from nxmi_export.workflow.parity import ParityRequest, check_parity
from nxmi_export.workflow.parity.ladder import NAMES
from samples.fault_injection.fault import Check, Fault

__all__ = ["REPORT", "Answer", "Outcome", "judge", "write_report"]

REPORT = "parity.json"


# Small, and of every kind that a run has; activation codes decide nothing.
_SETTINGS: dict[str, Any] = {
    "shift_examples": 16,
    "shape_examples": 6,
    "code_examples": 0,
    "replay_examples": 6,
    "drift_examples": 6,
}
_FILES = {Stage.WRITTEN: MODEL, Stage.SHIFTED: CPU_MODEL, Stage.FLOAT16: FP16_MODEL}


class Answer(StrEnum):
    """How a run ended."""

    REFUSED = "refused"  # before any rung, with an exit code other than 0
    FAILED = "gate failed"
    PASSED = "passed"


@dataclass(frozen=True)
class Outcome:
    """What was said, and of which rung first."""

    answer: Answer
    rung: str  # "" where it passed
    messages: tuple[str, ...]  # one sentence each
    exit_code: int

    def names(self, phrases: tuple[str, ...]) -> str:
        """The first message that holds all of `phrases`, or ""."""
        told = (each for each in self.messages if all(phrase in each for phrase in phrases))
        return next(told, "")


def judge(fault: Fault, artefact: Path, data: Path, task: Task) -> Outcome:
    """Let the product look at the artefact, as its commands do."""
    try:
        match fault.check:
            case Check.REPORT:
                inspect(str(artefact), report=artefact / REPORT)
            case Check.CERTIFICATE:
                read_certificate(read_artefact(artefact))
            case Check.PARITY:
                return _judged(_run(artefact, data, task, fault.options))
    except NxmiError as error:
        return Outcome(Answer.REFUSED, "before any rung", (str(error),), error.exit_code)
    return Outcome(Answer.PASSED, "", (), 0)


def write_report(artefact: Path, data: Path, task: Task, place: Path) -> None:
    """Run parity over an artefact and write its report into the folder `place`."""
    opened = read_artefact(artefact)
    document = run_document(
        opened,
        _run(artefact, data, task, {}),
        checkpoint=opened.source(),
        max_length=opened.manifest.position_limit,
        gate=Gate(),
    )
    (place / REPORT).write_text(json.dumps(document, default=str), encoding="utf-8")


def _run(artefact: Path, data: Path, task: Task, options: Mapping[str, Any]) -> ParityRun:
    request = ParityRequest(task, data, **{**_SETTINGS, **options})
    run = check_parity(read_artefact(artefact), request, on_progress=lambda *_: None)
    assert run is not None  # this is the main process
    return run


def _judged(run: ParityRun) -> Outcome:
    if run.ok:
        return Outcome(Answer.PASSED, "", tuple(_undecided(run)), 0)
    return Outcome(Answer.FAILED, _first_rung(run), run.failures, 1)


def _undecided(run: ParityRun) -> Iterator[str]:
    for split in run.splits:
        for check in split.verdict.checks:
            if check.undecided:
                yield check.undecided


def _first_rung(run: ParityRun) -> str:
    (split,) = run.splits[:1]
    stages = (stage for stage in Stage if _failing(split, stage))
    return next((NAMES[stage] for stage in stages), "the gate as a whole")


def _failing(split: SplitParity, stage: Stage) -> bool:
    """Whether a stored number, a replay, a bit or a setting of this rung is at fault."""
    result: ParityResult = split.result
    weights = result.weights.get(_FILES.get(stage, ""))
    drift = result.drift.get(stage)
    step = result.step(Stage.COMPRESSED, stage)
    shifted = result.step(Stage.WRITTEN, stage) if stage is Stage.SHIFTED else None
    rung = result.rungs.get(stage)
    replays = () if step is None else (*step.replayed, *step.explanations)
    shapes = [each for each in result.shapes if each.name == NAMES[stage]]
    return bool(
        (weights is not None and not weights.equal)
        or (drift is not None and not drift.explained)
        or any(not each.explained for each in replays)
        or (shifted is not None and len(shifted.comparison.different))
        or (rung is not None and len(rung.non_finite))
        or any(not r.explained for s in shapes for each in s.settings for r in each.replays)
    )
