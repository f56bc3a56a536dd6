"""What the gate makes of the statistics: proved harm, no decision, and several dev sets at once."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from parity_models import rung
from parity_results import artefact_storing, deployed, result_of, with_wrong

from nxmi_export.parity import (
    Check,
    Gate,
    NotCompared,
    ParityResult,
    Stage,
    Verdict,
    judge_run,
    score_statistics,
    verdict,
)
from nxmi_export.parity.document import run_document
from nxmi_export.parity.statistics import Conclusion, ScoreComparison, Terms

NAME = "score within 0.5 points"
LENIENT = Gate(max_drop=1, max_kernel_changed=1)  # what is left is the margin


def _check(result: ParityResult, gate: Gate, name: str = NAME) -> Check:
    (check,) = (each for each in verdict(result, gate).checks if each.name == name)
    return check


def _on_split(result: ParityResult, split: str) -> ParityResult:
    """The same result, as if it were of another dev split."""
    rungs = {
        stage: replace(rung, dataset=replace(rung.dataset, split=split))
        for stage, rung in result.rungs.items()
    }
    return replace(result, rungs=rungs)


def test_the_deployed_score_is_compared_and_the_shifted_one_needs_no_statistics() -> None:
    result = deployed(3)
    step = result.step(Stage.COMPRESSED, Stage.OPTIMIZED)
    assert step is not None
    assert isinstance(step.statistics, ScoreComparison)
    assert step.statistics.changed == 3
    shift = result.as_json()["steps"][2]
    assert (shift["candidate"], shift["statistics"]) == ("shifted", None)


def test_the_statistics_are_in_the_json() -> None:
    document = deployed(3).as_json()
    found = document["steps"][1]["statistics"]
    assert found["compared"] is True
    assert found["conclusion"] == "equivalent"
    assert found["difference"] == pytest.approx(-3 / 2000)
    assert found["terms"]["margin"] == 0.005
    json.dumps(document, allow_nan=False)


def test_one_class_is_no_comparison_of_f1_and_the_json_says_why() -> None:
    result = deployed(0, examples=1, task="mrpc")
    reason = (
        "labels of mrpc: expected examples of both classes, without which there is no f1, found "
        "only class 0; compare over the whole dev set"
    )
    assert result.as_json()["steps"][1]["statistics"] == {"compared": False, "reason": reason}
    doubt = f"The score was not held to the margin: {reason}."
    assert _check(result, Gate()) == Check(NAME, undecided=doubt)
    assert _check(result, Gate(strict=True)) == Check(NAME, (doubt,))


def test_a_rung_without_predictions_is_not_compared() -> None:
    broken = rung([[math.nan, 0], [0, 1]], name="onnx")
    found = score_statistics(rung([[1, 0], [0, 1]]), broken, Terms())
    assert found == NotCompared("onnx has no predictions, its logits not being finite")


def test_a_regression_that_says_the_same_of_all_is_not_compared() -> None:
    constant = rung(np.ones((8, 1)), name="onnx", task="stsb")
    found = score_statistics(rung(np.arange(8.0)[:, None], task="stsb"), constant, Terms())
    assert isinstance(found, NotCompared)
    assert found.reason.startswith("the candidate's predictions of stsb: expected values that vary")


def test_proved_harm_fails_whatever_drop_is_allowed() -> None:
    assert verdict(deployed(100), LENIENT).failures == (
        "The accuracy fell from 1.0000 in pytorch to 0.9500 in optimized: a drop beyond 0.5 points "
        "is shown at 95 % confidence (p = 1e-06).",
    )


def test_a_small_dev_set_decides_nothing_and_passes_unless_strict() -> None:
    result = deployed(0, examples=70)
    check = _check(result, Gate())
    assert check.failures == ()
    assert check.undecided == (
        "A drop of the accuracy beyond 0.5 points is not ruled out (p = 0.7). This dev set cannot "
        "certify a drop below 4.19 points, even if no prediction "
        "changes; with as many changes as seen, it certifies 4.19 points for 80% of the models "
        "that lose nothing."
    )
    assert verdict(result, Gate()).ok
    assert verdict(result, Gate(strict=True)).failures == (check.undecided,)


def test_a_large_dev_set_decides_and_passes_under_strict_too() -> None:
    assert _check(deployed(0), Gate(strict=True)) == Check(NAME)


def test_statistics_on_other_terms_than_the_gates_fail() -> None:
    gate = Gate(terms=Terms(margin=0.02))
    (failure,) = verdict(deployed(0), gate).failures
    assert failure == f"The score was held to {Terms()}, not to {gate.terms}."


def test_changes_of_any_cause_are_limited_where_the_gate_says_so() -> None:
    result = deployed(3)
    assert _check(result, Gate(max_flips=3), "changed predictions").failures == ()
    assert verdict(result, Gate(max_flips=2)).failures == (
        "optimized changed 3 of 2000 predictions of pytorch, where 2 may; the first is example 0.",
    )
    uncompared = replace(result, steps=())
    assert _check(uncompared, Gate(max_flips=2), "changed predictions").failures == (
        "The predictions of ONNX optimized were not compared with compressed PyTorch's.",
    )


def test_a_verdict_without_checks_is_no() -> None:
    assert not Verdict(()).ok


def test_one_dev_set_needs_no_correction() -> None:
    run = judge_run([deployed(0)], Gate())
    assert run.ok
    assert run.family is not None
    (split,) = run.splits
    assert split.member is not None
    assert split.member.reasons == split.member.comparison.reasons
    assert run.family.conclusion is Conclusion.EQUIVALENT


def test_harm_on_one_of_many_dev_sets_must_survive_the_correction() -> None:
    """p = 0.028 alone is 0.25 as the smallest of nine."""
    harmed = result_of(with_wrong(0, "written", examples=500), with_wrong(7, examples=500))
    alone = judge_run([harmed], LENIENT)
    assert [each.conclusion for each in (alone.family.members.values())] == [Conclusion.INFERIOR]
    assert not alone.ok
    others = [_on_split(deployed(0), f"split {number}") for number in range(8)]
    run = judge_run([harmed, *others], LENIENT)
    assert run.ok
    assert run.family is not None
    assert run.splits[0].member is not None
    assert run.splits[0].member.conclusion is Conclusion.INCONCLUSIVE
    assert not judge_run([harmed, *others], replace(LENIENT, strict=True)).ok


def test_all_dev_sets_pass_together_where_each_passes_alone() -> None:
    results = [_on_split(deployed(4), f"split {number}") for number in range(9)]
    run = judge_run(results, Gate(strict=True))
    assert run.ok
    assert run.family is not None
    assert run.family.conclusion is Conclusion.EQUIVALENT


def test_a_dev_set_that_was_not_compared_leaves_the_whole_open() -> None:
    compared, other = (_on_split(deployed(4), name) for name in ("compared", "other"))
    nothing = NotCompared("one class alone")
    other = replace(other, steps=tuple(replace(s, statistics=nothing) for s in other.steps))
    run = judge_run([compared, other], Gate())
    assert run.family is not None
    assert run.family.conclusion is Conclusion.EQUIVALENT
    assert run.conclusion is Conclusion.INCONCLUSIVE
    assert judge_run([compared], Gate()).conclusion is Conclusion.EQUIVALENT
    assert judge_run([other], Gate()).conclusion is None
    harmed = judge_run([_on_split(deployed(100), "harmed"), other], LENIENT)
    assert harmed.conclusion is Conclusion.INFERIOR


def test_a_failure_of_a_run_of_several_names_its_dev_set() -> None:
    results = [_on_split(deployed(wrong), f"split {wrong}") for wrong in (0, 100)]
    run = judge_run(results, LENIENT)
    (failure,) = run.failures
    assert failure.startswith("sst2 split 100: The accuracy fell from 1.0000 in pytorch to 0.9500")
    assert judge_run(results[1:], LENIENT).failures[0].startswith("The accuracy fell")


def test_a_run_of_nothing_is_no() -> None:
    run = judge_run([], Gate())
    assert not run.ok
    assert run.family is None


def test_the_document_of_a_run() -> None:
    results = [_on_split(deployed(wrong), f"split {wrong}") for wrong in (0, 100)]
    run = judge_run(results, LENIENT, ["A warning."])
    document = run_document(
        artefact_storing(), run, checkpoint="model.pt", max_length=64, gate=LENIENT
    )
    assert document == json.loads(json.dumps(document, allow_nan=False))
    assert (document["schema"], document["ok"]) == ("nxmi-export/parity-run/4", False)
    assert document["warnings"] == ["A warning."]
    assert document["gate"]["terms"] == {
        "margin": 0.005,
        "confidence": 0.95,
        "resamples": 9999,
        "seed": 0,
    }
    family = document["family"]
    assert document["conclusion"] == family["conclusion"] == "inferior"
    assert {name: each["conclusion"] for name, each in family["members"].items()} == {
        "sst2 split 0": "equivalent",
        "sst2 split 100": "inferior",
    }
    assert [each["ok"] for each in document["splits"]] == [True, False]
    failed = [each["name"] for each in document["splits"][1]["checks"] if not each["ok"]]
    assert failed == [NAME]
