"""Whether a parity report says that the engine ran: of real reports of made-up logits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from parity_results import artefact_storing, result_of, with_wrong

from nxmi_export.certificate import Answer, engine_ran
from nxmi_export.certificate.claims import Cell
from nxmi_export.errors import ArtefactError
from nxmi_export.glue import task_named
from nxmi_export.parity import Gate, ParityResult, Stage, Step, Unproven, compare, judge_run
from nxmi_export.parity.document import run_document
from nxmi_export.parity.statistics import Terms
from nxmi_export.workflow.parity import ParityRequest

PATH = Path("parity.json")


def ran(wrong: int = 0) -> ParityResult:
    """A run whose engine answers `wrong` examples otherwise than PyTorch."""
    result = result_of(with_wrong(0, "written"))
    engine = with_wrong(wrong, "TensorRT engine")
    reference = result.rungs[Stage.COMPRESSED]
    step = Step(Stage.COMPRESSED, Stage.ENGINE, compare(reference, engine))
    rungs = {**result.rungs, Stage.ENGINE: engine}
    return replace(result, rungs=rungs, steps=(*result.steps, step))


def document(*results: ParityResult) -> dict[str, Any]:
    gate = Gate()
    run = judge_run(results, gate)
    artefact = artefact_storing("2:4+int8")
    return run_document(artefact, run, checkpoint="model.pt", max_length=64, gate=gate)


def told(results: Sequence[ParityResult]) -> Cell:
    return engine_ran(document(*results), PATH)


def test_an_engine_that_read_every_dev_set_ran() -> None:
    assert document(ran())["ok"]
    cell = told([ran(), ran()])
    assert (cell.answer, cell.why) == (Answer.PROVED, "TensorRT engine over 4000 examples")
    assert cell.evidence == ("parity.json",)


def test_an_engine_that_one_dev_set_has_no_rung_of_is_unproven() -> None:
    cell = told([ran(), result_of(with_wrong(0, "written"))])
    assert (cell.answer, cell.why) == (
        Answer.UNPROVEN,
        "parity.json: the engine is no rung of the run",
    )


def test_an_engine_that_could_not_run_is_unproven_for_its_reason() -> None:
    unproven = {Stage.ENGINE: Unproven("No driver was found.", deployed=True)}
    cell = told([replace(result_of(with_wrong(0, "written")), unproven=unproven)])
    assert (cell.answer, cell.why) == (Answer.UNPROVEN, "parity.json: No driver was found")


def test_an_engine_whose_answers_fail_the_gate_is_unproven() -> None:
    cell = told([ran(wrong=500)])
    assert cell.answer is Answer.UNPROVEN
    assert cell.why.startswith("parity.json: the engine ran, and parity failed: ")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"examples": 1}, "the engine read 1 of 2000 examples"),
        ({"examples": 0}, "the engine read 0 of 2000 examples"),
        ({"non_finite_examples": [3, 9]}, "the engine's logits are not finite for 2 examples"),
    ],
)
def test_an_engine_that_read_a_part_or_answered_nothing_is_unproven(
    change: dict[str, Any], why: str
) -> None:
    report = document(ran())
    report["splits"][0]["rungs"]["engine"] |= change
    assert engine_ran(report, PATH).why == f"parity.json: {why}"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"limit": 2000}, "no dev set was read beyond 2000 examples"),
        (
            {"allowances": ["max_drop", "margin"]},
            "it was run with other settings than usual: max_drop, margin",
        ),
    ],
)
def test_part_of_the_examples_or_a_lenient_gate_prove_nothing(
    change: dict[str, Any], why: str
) -> None:
    cell = engine_ran(document(ran()) | change, PATH)
    assert (cell.answer, cell.why) == (Answer.UNPROVEN, f"parity.json: {why}")


@pytest.mark.parametrize(
    ("gate", "allowances"),
    [
        (Gate(), ()),
        (Gate(strict=True, max_drop=0.001, terms=Terms(margin=0.001, confidence=0.99)), ()),
        (Gate(max_changed=1, max_kernel_changed=0.5), ("max_changed", "max_kernel_changed")),
        (Gate(require_probes=False, terms=Terms(margin=0.01)), ("require_probes", "margin")),
        (Gate(max_flips=3, terms=Terms(confidence=0.9)), ("confidence",)),
    ],
)
def test_what_lets_more_pass_than_usual_is_told(gate: Gate, allowances: tuple[str, ...]) -> None:
    assert gate.allowances == allowances


@pytest.mark.parametrize(
    ("changes", "allowances"),
    [
        ({}, ()),
        ({"probe_tokens": 1024, "replay_examples": 17}, ()),
        ({"shift_examples": 127}, ("shift_examples",)),
        ({"shape_examples": 31, "replay_examples": 0}, ("shape_examples", "replay_examples")),
        ({"drift_examples": 15, "gate": Gate(max_changed=1)}, ("max_changed", "drift_examples")),
    ],
)
def test_what_looks_at_less_than_usual_is_told_too(
    changes: dict[str, Any], allowances: tuple[str, ...]
) -> None:
    assert ParityRequest(task_named("sst2"), None, **changes).allowances == allowances


def test_a_report_without_dev_sets_is_unproven() -> None:
    assert engine_ran(document() | {"ok": True}, PATH).answer is Answer.UNPROVEN


def test_a_report_that_says_nothing_of_rungs_is_refused() -> None:
    report = document(ran())
    del report["splits"][0]["rungs"]
    with pytest.raises(ArtefactError) as caught:
        engine_ran(report, PATH)
    assert str(caught.value) == (
        "parity.json: expected what nxmi-export parity writes, found splits.0.rungs: "
        "Field required; run nxmi-export parity again"
    )
