"""An artefact in, what the product says of it out: refused, failed with causes, or passed."""

import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, MANIFEST, MODEL, read_artefact
from nxmi_export.certificate import read_certificate
from nxmi_export.errors import NxmiError
from nxmi_export.glue import Task
from nxmi_export.parity import Gate, ParityResult, ParityRun, Stage
from nxmi_export.parity.document import run_document
from nxmi_export.parity.run import SplitParity
from nxmi_export.workflow.inspect import inspect
from nxmi_export.workflow.parity import ParityRequest, check_parity
from nxmi_export.workflow.parity.climb import climb
from nxmi_export.workflow.parity.ladder import NAMES
from samples.fault_injection.fault import Check

__all__ = ["NO_RUNG", "REPORT", "Answer", "Outcome", "judge", "write_report"]

REPORT = "parity.json"
NO_RUNG = "before any rung"
_WHOLE = "the gate as a whole"


# Small, and of every kind that a run has.
_SETTINGS: dict[str, Any] = {
    "shift_examples": 16,
    "shape_examples": 6,
    "code_examples": 6,
    "replay_examples": 6,
    "drift_examples": 6,
}
_FILES = {Stage.WRITTEN: MODEL, Stage.SHIFTED: CPU_MODEL, Stage.FLOAT16: FP16_MODEL}


class Answer(StrEnum):
    """How a run ended."""

    REFUSED = "refused"  # by an error, with an exit code other than 0
    FAILED = "gate failed"
    PASSED = "passed"


@dataclass(frozen=True)
class Outcome:
    """What was said, and of which rung first."""

    answer: Answer
    rung: str  # "" where it passed
    messages: tuple[str, ...]  # one sentence each
    exit_code: int
    causes: list[dict[str, Any]] = field(default_factory=list)  # as data, in the order stated
    failed: tuple[str, ...] = ()  # the checks of the gate that do not hold


def judge(check: Check, artefact: Path, data: Path, task: Task) -> Outcome:
    """Let the product look at the artefact, as its commands do."""
    try:
        match check:
            case Check.REPORT:
                inspect(str(artefact), report=artefact / REPORT)
            case Check.CERTIFICATE:
                read_certificate(read_artefact(artefact))
            case Check.PARITY:
                run = _run(artefact, data, task)
                return _judged(run, _document(artefact, run))
    except NxmiError as error:
        refusal = _refusal(error)
        return Outcome(Answer.REFUSED, _rung_of(error), (str(error),), error.exit_code, [refusal])
    return Outcome(Answer.PASSED, "", (), 0)


def write_report(artefact: Path, data: Path, task: Task, place: Path) -> None:
    """Run parity over an artefact and write its report into the folder `place`."""
    document = _document(artefact, _run(artefact, data, task))
    (place / REPORT).write_text(json.dumps(document), encoding="utf-8")


def _run(artefact: Path, data: Path, task: Task) -> ParityRun:
    request = ParityRequest(task, data, **_SETTINGS)
    run = check_parity(read_artefact(artefact), request, on_progress=lambda *_: None)
    assert run is not None  # this is the main process
    return run


def _document(artefact: Path, run: ParityRun) -> dict[str, Any]:
    """What `nxmi-export parity -o` writes, read back from its text."""
    opened = read_artefact(artefact)
    document = run_document(
        opened,
        run,
        checkpoint=opened.source(),
        max_length=opened.manifest.position_limit,
        gate=Gate(),
    )
    written: dict[str, Any] = json.loads(json.dumps(document, default=str))
    return written


def _judged(run: ParityRun, document: Mapping[str, Any]) -> Outcome:
    if run.ok:
        return Outcome(Answer.PASSED, "", tuple(_undecided(run)), 0)
    (split,) = document["splits"][:1]
    return Outcome(
        Answer.FAILED,
        _first_rung(run),
        run.failures,
        1,
        list(_causes(split)),
        tuple(check["name"] for check in split["checks"] if not check["ok"]),
    )


def _causes(split: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the document of a split gives as causes: of each file, then of each rung, the first."""
    for file, weights in split["weights"].items():
        if weights["foreign"]:
            yield {"by": "foreign file", "file": file}
        elif weights["mismatches"]:
            first = weights["mismatches"][0]
            # A node is named after its module: "module (Op name)".
            module = first["module"].partition(" (")[0]
            yield {"by": "stored number", "file": file} | first | {"module": module}
    if split["records"]:
        yield {"by": "stored number", "file": MANIFEST} | split["records"][0]
    probed = (split["probes"] or {}).get("drift", {})
    for rung, drift in (*split["drift"].items(), *probed.items()):
        attribution = drift["found"]["attribution"]
        if not drift["explained"] and attribution is not None:
            yield {"by": "drift", "rung": rung} | _drift(attribution, drift["found"])


def _drift(attribution: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    first = found.get("first")  # of a fusion there is none
    return {
        "cause": attribution["cause"],
        "module": attribution["module"],
        "kind": None if first is None else first["point"]["kind"],
        "maker": attribution["maker"],
        "absent": [point["module"] for point in attribution["absent"]],
    }


def _refusal(error: NxmiError) -> dict[str, Any]:
    return {
        "by": "refusal",
        "error": type(error).__name__,
        "subject": error.subject.rpartition("/")[2],  # of a path its name
        "expected": error.expected,
        "met": error.found,
    }


def _rung_of(error: NxmiError) -> str:
    """The rung that was being opened or run when the error left `climb`."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is climb.__code__:
            stage: Stage = frame.f_locals["stage"]
            return NAMES[stage]
    return NO_RUNG


def _undecided(run: ParityRun) -> Iterator[str]:
    for split in run.splits:
        for check in split.verdict.checks:
            if check.undecided:
                yield check.undecided


def _first_rung(run: ParityRun) -> str:
    (split,) = run.splits[:1]
    stages = (stage for stage in Stage if _failing(split, stage))
    return next((NAMES[stage] for stage in stages), _WHOLE)


def _failing(split: SplitParity, stage: Stage) -> bool:
    """Whether a stored number, a replay, a bit or a setting of this rung is at fault."""
    result: ParityResult = split.result
    weights = result.weights.get(_FILES.get(stage, ""))
    drift = result.drift.get(stage)
    step = result.step(Stage.COMPRESSED, stage)
    shifted = result.step(Stage.WRITTEN, stage) if stage is Stage.SHIFTED else None
    rung = result.rungs.get(stage)
    probes = result.probes
    onto = [] if probes is None else [s for s in probes.steps if s.candidate is stage]
    probed = (each for s in onto for each in (*s.explanations, *s.replayed))
    beyond = None if probes is None else probes.drift.get(stage)
    replays = (*probed, *(() if step is None else (*step.replayed, *step.explanations)))
    shapes = [each for each in result.shapes if each.name == NAMES[stage]]
    return bool(
        (weights is not None and not weights.equal)
        or any(each is not None and not each.explained for each in (drift, beyond))
        or any(not each.explained for each in replays)
        or (shifted is not None and len(shifted.comparison.different))
        or (shifted is not None and any(s.comparison.different for s in onto))
        or (rung is not None and len(rung.non_finite))
        or any(not r.explained for s in shapes for each in s.settings for r in each.replays)
    )
