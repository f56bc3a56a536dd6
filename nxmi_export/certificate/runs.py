"""A parity report of the artefact's files in, whether its engine ran out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from nxmi_export.backends.tensorrt_engine import Verdict
from nxmi_export.certificate.claims import Cell, answered
from nxmi_export.errors import ArtefactError
from nxmi_export.parity.stored_document import reservations

__all__ = ["engine_ran"]

_ENGINE = "engine"  # the rung of the ladder


class _Dataset(BaseModel):
    task: str
    split: str
    examples: int


class _Rung(BaseModel):
    name: str
    examples: int
    non_finite_examples: tuple[int, ...]


class _Unproven(BaseModel):
    reason: str


class _Split(BaseModel):
    dataset: _Dataset | None
    failures: tuple[str, ...]
    rungs: dict[str, _Rung]
    unproven: dict[str, _Unproven]


class _Run(BaseModel):
    ok: bool
    limit: int | None  # of the examples of each dev set
    allowances: tuple[str, ...]  # by which more passes than usual
    splits: tuple[_Split, ...]


def engine_ran(document: Mapping[str, Any], path: Path) -> Cell:
    """Proved by a passing run whose engine read every example of a dev set, with finite logits.

    `document` is what `read_run_document` read from `path`: it is bound to the plan by its hash.
    One of part of the examples proves nothing, nor does one by a gate that lets more pass than the
    usual one.
    Raises ArtefactError for one that says nothing of rungs.
    """
    try:
        run = _Run.model_validate(document)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ArtefactError(
            path,
            expected="what nxmi-export parity writes",
            found=f"{place}: {error.errors()[0]['msg']}",
            remedy="run nxmi-export parity again",
        ) from error
    if not run.splits:
        return answered(Verdict.UNPROVEN, f"{path.name} has no dev set")
    if open_ := next((told for each in run.splits if (told := _objection(each))), None):
        return answered(Verdict.UNPROVEN, f"{path.name}: {open_}")
    if told := next(iter(reservations(document)), None):
        return answered(Verdict.UNPROVEN, f"{path.name}: {told}")
    if not run.ok:
        failures = (failure for each in run.splits for failure in each.failures)
        first = next(failures, "the run as a whole")
        return answered(
            Verdict.UNPROVEN, f"{path.name}: the engine ran, and parity failed: {first}"
        )
    examples = sum(each.rungs[_ENGINE].examples for each in run.splits)
    name = run.splits[0].rungs[_ENGINE].name
    return answered(Verdict.PROVED, f"{name} over {examples} examples", (path.name,))


def _objection(split: _Split) -> str | None:
    """Why a dev set does not show that the engine ran."""
    rung, dataset = split.rungs.get(_ENGINE), split.dataset
    if rung is None or dataset is None:
        told = split.unproven.get(_ENGINE)
        return told.reason.removesuffix(".") if told else "the engine is no rung of the run"
    if not rung.examples or rung.examples != dataset.examples:
        return f"the engine read {rung.examples} of {dataset.examples} examples"
    if rung.non_finite_examples:
        return f"the engine's logits are not finite for {len(rung.non_finite_examples)} examples"
    return None
