"""OpenVINO as a rung: what it may change, what its score must prove, and where that is told."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from parity_results import LOGITS, artefact_storing, result_of, with_wrong

from nxmi_export.parity import (
    Gate,
    ParityResult,
    RungResult,
    ShapeParity,
    Stage,
    Step,
    compare,
    judge_run,
    score_statistics,
    verdict,
)
from nxmi_export.parity.replay_checks import openvino_checks
from nxmi_export.parity.shapes import ShapeSetting
from nxmi_export.parity.statistics import Terms
from nxmi_export.report.junit import junit_xml
from nxmi_export.report.markdown_summary import markdown_summary

ANY_SCORE = Terms(margin=0.9)
NAME = "OpenVINO, int8 products"


def ran(openvino: RungResult, terms: Terms | None = None) -> ParityResult:
    """A run whose other rungs change nothing."""
    terms = terms or Terms()
    right = with_wrong(0, "written", examples=len(openvino.dataset))
    result = result_of(right, terms=terms)
    reference = result.rungs[Stage.COMPRESSED]
    step = Step(
        Stage.COMPRESSED,
        Stage.OPENVINO,
        compare(reference, openvino),
        statistics=score_statistics(reference, openvino, terms),
    )
    rungs = {**result.rungs, Stage.OPENVINO: openvino}
    shapes = ShapeParity(openvino.name, 32, (ShapeSetting(8, None, 0, 0.0),), observable=False)
    return replace(
        result, rungs=rungs, steps=(*result.steps, step), shapes=(*result.shapes, shapes)
    )


def failures(result: ParityResult, gate: Gate) -> list[tuple[str, str]]:
    return [(each.name, told) for each in verdict(result, gate).checks for told in each.failures]


def test_a_run_without_it_has_no_such_condition() -> None:
    names = [each.name for each in verdict(result_of(with_wrong(0, "written")), Gate()).checks]
    assert not any("OpenVINO" in name for name in names)


def test_one_that_changes_nothing_passes_both_conditions() -> None:
    checks = {each.name: each for each in verdict(ran(with_wrong(0, NAME)), Gate()).checks}
    for name in ("OpenVINO", "score within 0.5 points on OpenVINO"):
        assert not checks[name].failures
        assert checks[name].undecided is None


@pytest.mark.parametrize(("wrong", "ok"), [(20, True), (21, False)])
def test_it_is_held_to_the_share_of_what_cannot_be_replayed(wrong: int, ok: bool) -> None:
    found = failures(ran(with_wrong(wrong, NAME), ANY_SCORE), Gate(max_drop=1, terms=ANY_SCORE))
    sentence = (
        "OpenVINO, int8 products changed 21 of 2000 predictions of pytorch without an "
        "explanation, where 20 may; the first is example 0."
    )
    assert found == ([] if ok else [("OpenVINO", sentence)])


def test_a_drop_of_its_score_fails() -> None:
    found = failures(ran(with_wrong(12, NAME), ANY_SCORE), Gate(terms=ANY_SCORE))
    sentence = (
        "The score of OpenVINO, int8 products is 0.0060 below that of pytorch, where 0.0050 is "
        "allowed."
    )
    assert found == [("OpenVINO", sentence)]


def test_a_drop_that_is_proved_fails() -> None:
    gate = Gate(max_drop=1, max_kernel_changed=1)
    [(name, sentence)] = failures(ran(with_wrong(100, NAME)), gate)
    assert name == "score within 0.5 points on OpenVINO"
    assert sentence.startswith(
        "The accuracy fell from 1.0000 in pytorch to 0.9500 in OpenVINO, int8 products: "
    )


def test_a_drop_that_is_not_ruled_out_is_open_and_fails_under_strict() -> None:
    result = ran(with_wrong(0, NAME, examples=70))
    name = "score within 0.5 points on OpenVINO"
    (check,) = (each for each in verdict(result, Gate()).checks if each.name == name)
    assert not check.failures
    assert check.undecided is not None
    assert check.undecided.startswith(
        "A drop of the accuracy on OpenVINO beyond 0.5 points is not ruled out (p = "
    )
    assert (name, check.undecided) in failures(result, Gate(strict=True))


def test_logits_that_are_not_finite_fail() -> None:
    logits = LOGITS.copy()
    logits[3] = float("nan")
    broken = replace(with_wrong(0, NAME), logits=logits, predictions=None)
    told = failures(ran(broken), Gate())
    assert ("all rungs ran", told[0][1]) == told[0]
    assert told[0][1] == (
        "OpenVINO, int8 products gave NaN or infinite logits for 1 of 2000 examples, the first of "
        "them example 3."
    )
    assert ("OpenVINO", "OpenVINO cannot be compared with compressed PyTorch.") in told


@pytest.mark.parametrize(("changed", "ok"), [(1, True), (2, False)])
def test_padding_on_the_left_may_change_one_prediction_or_the_share(changed: int, ok: bool) -> None:
    result = ran(with_wrong(0, NAME))
    *others, found = result.shapes
    left = ShapeSetting(8, None, changed, 0.5, tuple(range(changed)), left=True)
    shapes = (*others, replace(found, settings=(*found.settings, left)))
    sentence = (
        "OpenVINO, int8 products in batches of 8 padded on the left changed 2 of 32 predictions."
    )
    expected = [] if ok else [("OpenVINO", sentence)]
    assert failures(replace(result, shapes=shapes), Gate()) == expected


@pytest.mark.parametrize(("examples", "ok"), [(32, False), (15, True)])
def test_shapes_that_move_half_of_the_examples_beyond_the_dev_set_fail(
    examples: int, ok: bool
) -> None:
    result = ran(with_wrong(0, NAME))
    *others, found = result.shapes
    left = ShapeSetting(8, None, 0, 0.5, left=True, median_logit_gap=0.25)
    shapes = (*others, replace(found, examples=examples, settings=(left,)))
    sentence = (
        "OpenVINO, int8 products in batches of 8 padded on the left moved the logits of half of 32 "
        "examples by 0.25 or more, where nine in ten of the dev set lie within 0 of "
        "pytorch."
    )
    judged = replace(result, shapes=shapes)
    assert failures(judged, Gate()) == ([] if ok else [("OpenVINO", sentence)])
    (check, *_) = openvino_checks(judged, Gate())
    few = (
        "15 examples are too few to say how far batch sizes and padding move a typical one on "
        "OpenVINO, where 16 can."
    )
    assert check.undecided == (few if ok else None)


def test_shapes_that_were_not_compared_fail_unless_the_gate_lets_them() -> None:
    result = ran(with_wrong(0, NAME))
    result = replace(result, shapes=result.shapes[:-1])
    sentence = "Batch sizes and padded lengths were not compared on OpenVINO."
    assert failures(result, Gate()) == [("OpenVINO", sentence)]
    assert failures(result, Gate(require_shapes=False)) == []


def test_a_rung_that_was_compared_with_nothing_fails() -> None:
    result = ran(with_wrong(0, NAME))
    kept = tuple(each for each in result.steps if each.candidate is not Stage.OPENVINO)
    assert failures(replace(result, steps=kept), Gate()) == [
        ("OpenVINO", "OpenVINO cannot be compared with compressed PyTorch."),
        (
            "score within 0.5 points on OpenVINO",
            "The score of OpenVINO was not held to the margin.",
        ),
    ]


def test_the_summaries_name_it() -> None:
    run = judge_run([ran(with_wrong(2, NAME))], Gate())
    text = markdown_summary(run, artefact_storing())
    assert (
        "\n## OpenVINO\n\n- sst2 validation: 0.9990 of OpenVINO, int8 products, "
        "2 of 2000 predictions changed\n"
    ) in text
    (suite,) = ET.fromstring(junit_xml(run).encode())
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["openvino.primary"] == "0.999"
    assert "OpenVINO" in [case.get("name") for case in suite.iter("testcase")]


def test_the_json_has_the_rung_and_its_step() -> None:
    document = ran(with_wrong(2, NAME)).as_json()
    assert document["rungs"]["openvino"]["name"] == NAME
    (step,) = (each for each in document["steps"] if each["candidate"] == "openvino")
    assert step["reference"] == "compressed"
    assert step["statistics"]["compared"] is True
    assert step["unexplained"] == [0, 1]
