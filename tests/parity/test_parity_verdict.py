"""The gate: every condition fails by itself, and what was not checked fails too."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from parity_models import rung
from parity_results import EXAMPLES, LOGITS, WEIGHTS, probes_of, result_of, with_wrong

from nxmi_export.parity import (
    Check,
    CodeAgreement,
    Explanation,
    Gate,
    ParityResult,
    RungResult,
    ShapeParity,
    Stage,
    Step,
    Unproven,
    WeightParity,
    compare,
    verdict,
)
from nxmi_export.parity.drift import Localization, RungDrift
from nxmi_export.parity.layer_weights import Mismatch
from nxmi_export.parity.shapes import ShapeSetting
from nxmi_export.parity.statistics import Terms

ANY_SCORE = Terms(margin=0.9)
TIE, NO_TIE = Explanation(4, True, "A tie."), Explanation(9, False, "The mask leaks.")


@pytest.fixture(scope="module")
def perfect() -> ParityResult:
    return result_of(rung(LOGITS, name="written"), rung(LOGITS, name="optimized"))


def test_equal_rungs_and_weights_pass(perfect: ParityResult) -> None:
    assert verdict(perfect, Gate()).failures == ()
    assert verdict(perfect, Gate()).ok


def test_nothing_checked_fails_every_condition() -> None:
    empty = verdict(ParityResult({}), Gate())
    assert not empty.ok
    assert empty.failures == (
        "The rung 'compressed' was not run.",
        "The rung 'written' was not run.",
        "The rung 'shifted' was not run.",
        "The rung 'optimized' was not run.",
        "Compressed PyTorch was not compared with the ONNX file as written.",
        "The ONNX file for the CPU was not compared with the ONNX file as written.",
        "ONNX optimized was not compared with the ONNX file as written.",
        "The score of ONNX optimized was not compared with that of compressed PyTorch.",
        "The score of ONNX optimized was not held to the margin.",
        "The stored weights were not compared.",
        "Batch sizes and padded lengths were not compared.",
        "No probe was run: what the dev set does not reach is unknown.",
    )


def test_rungs_that_were_not_compared_fail(perfect: ParityResult) -> None:
    assert verdict(replace(perfect, steps=()), Gate()).failures == (
        "Compressed PyTorch was not compared with the ONNX file as written.",
        "The ONNX file for the CPU was not compared with the ONNX file as written.",
        "ONNX optimized was not compared with the ONNX file as written.",
        "The score of ONNX optimized was not held to the margin.",
    )


@pytest.mark.parametrize("stage", [Stage.SHIFTED, Stage.OPTIMIZED])
def test_a_rung_of_the_deployed_file_that_was_not_run_fails(
    perfect: ParityResult, stage: Stage
) -> None:
    rungs = {each: rung for each, rung in perfect.rungs.items() if each is not stage}
    failures = verdict(replace(perfect, rungs=rungs), Gate()).failures
    assert failures[0] == f"The rung {stage.value!r} was not run."


def test_one_bit_of_one_logit_of_the_shifted_file_fails() -> None:
    logits = LOGITS.copy()
    logits[1200, 1] = -0.0  # as a number, equal to what it was
    failures = verdict(
        result_of(rung(LOGITS, name="written"), shifted=rung(logits, name="shifted")), Gate()
    ).failures
    assert failures == (
        "shifted gave other logits than written for 1 of 2000 examples, where all must be equal "
        "bit for bit; the first is example 1200, and the largest gap 0.",
    )


def with_float16(candidate: RungResult | None) -> ParityResult:
    """A result of an artefact with model.fp16.onnx; None where that was not run."""
    written = rung(LOGITS, name="written")
    result = result_of(written, terms=ANY_SCORE)
    weights = {**result.weights, "model.fp16.onnx": WEIGHTS["model.onnx"]}
    if candidate is None:
        return replace(result, weights=weights)
    step = Step(Stage.WRITTEN, Stage.FLOAT16, compare(written, candidate))
    rungs, probes = {**result.rungs, Stage.FLOAT16: candidate}, probes_of(Stage.FLOAT16)
    steps = (*result.steps, step)
    drift = {Stage.FLOAT16: RungDrift(Localization(16, None, (), (), None))}
    return replace(result, rungs=rungs, steps=steps, weights=weights, probes=probes, drift=drift)


def test_a_float16_file_whose_layers_were_not_compared_fails() -> None:
    result = replace(with_float16(with_wrong(0, "float16")), drift={})
    assert verdict(result, Gate(terms=ANY_SCORE)).failures == (
        "The layers of the float16 file were not compared with PyTorch's.",
    )


@pytest.mark.parametrize(("tipped", "ok"), [(25, True), (26, False)])
def test_float16_may_tip_a_quarter_of_the_first_codes_and_no_more(tipped: int, ok: bool) -> None:
    result = with_float16(with_wrong(0, "float16"))
    assert result.probes is not None
    codes = CodeAgreement("embeddings", 100 - tipped, tipped)
    result = replace(result, probes=replace(result.probes, float16=codes))
    told = (
        "The float16 file gives 26 of 100 codes of embeddings one step away from PyTorch's on the "
        "probes, where rounding to float16 accounts for 25% at most."
    )
    assert verdict(result, Gate(terms=ANY_SCORE)).failures == (() if ok else (told,))


def test_float16_may_tip_the_allowed_share_of_predictions_and_no_more() -> None:
    gate = Gate(terms=ANY_SCORE)
    assert verdict(with_float16(with_wrong(40, "float16")), gate).ok
    assert verdict(with_float16(with_wrong(41, "float16")), gate).failures == (
        "float16 changed 41 of 2000 predictions of written, where 2.0% may; "
        "the first is example 0.",
    )


def test_a_float16_file_that_was_not_run_fails() -> None:
    assert verdict(with_float16(None), Gate(terms=ANY_SCORE)).failures == (
        "The rung 'float16' was not run.",
        "The float16 file was not compared with the ONNX file as written.",
    )


def test_an_overflow_in_float16_fails() -> None:
    logits = LOGITS.copy()
    logits[3, 1] = np.inf
    failures = verdict(with_float16(rung(logits, name="float16")), Gate(terms=ANY_SCORE)).failures
    assert failures == (
        "float16 gave NaN or infinite logits for 1 of 2000 examples, the first of them example 3.",
        "float16 cannot be compared with written.",
    )


def test_an_artefact_without_a_float16_file_owes_none(perfect: ParityResult) -> None:
    assert "float16 file" not in {check.name for check in verdict(perfect, Gate()).checks}


def test_kernels_may_tip_the_allowed_share_of_predictions_and_no_more() -> None:
    written, gate = rung(LOGITS, name="written"), Gate(max_drop=1, terms=ANY_SCORE)
    assert verdict(result_of(written, with_wrong(20), terms=ANY_SCORE), gate).ok
    assert verdict(result_of(written, with_wrong(21), terms=ANY_SCORE), gate).failures == (
        "optimized changed 21 of 2000 predictions of written without an explanation, where 1.0% "
        "may; example 0: It was not examined.",
    )


def test_changes_that_leave_the_score_as_it_was_fail_too() -> None:
    half_wrong, other_half = LOGITS.copy(), LOGITS.copy()
    half_wrong[:1000] = half_wrong[:1000, ::-1]
    other_half[1000:] = other_half[1000:, ::-1]
    written, optimized = rung(half_wrong, name="written"), rung(other_half, name="optimized")
    result = result_of(written, optimized, terms=ANY_SCORE)
    assert result.rungs[Stage.WRITTEN].primary == result.rungs[Stage.OPTIMIZED].primary
    (failure,) = verdict(result, Gate(max_changed=1000, max_drop=1, terms=ANY_SCORE)).failures
    assert failure.startswith("optimized changed 2000 of 2000 predictions of written")


def test_shapes_must_be_compared_unless_the_gate_says_otherwise(perfect: ParityResult) -> None:
    unshaped = replace(perfect, shapes=())
    assert verdict(unshaped, Gate()).failures == (
        "Batch sizes and padded lengths were not compared.",
    )
    assert verdict(unshaped, Gate(require_shapes=False)).ok


def test_an_unexplained_change_fails() -> None:
    result = result_of(with_wrong(1, "written"))
    assert verdict(result, Gate()).failures == (
        "written changed 1 of 2000 predictions of pytorch without an explanation, where 0 may; "
        "example 0: It was not examined.",
    )


@pytest.mark.parametrize("explained", [False, None])
def test_a_refused_or_unobservable_explanation_is_none(explained: bool | None) -> None:
    result = result_of(with_wrong(1, "written"))
    step = replace(result.steps[0], explanations=(Explanation(0, explained, "Not a tie."),))
    (failure,) = verdict(replace(result, steps=(step, *result.steps[1:])), Gate()).failures
    assert failure.endswith("example 0: Not a tie.")


def test_explained_changes_pass() -> None:
    result = result_of(with_wrong(2, "written"))
    ties = tuple(Explanation(index, True, "A tie.") for index in (0, 1))
    step = replace(result.steps[0], explanations=ties)
    assert verdict(replace(result, steps=(step, *result.steps[1:])), Gate()).ok


def test_as_many_unexplained_changes_as_allowed_pass() -> None:
    result = result_of(with_wrong(2, "written"))
    assert verdict(result, Gate(max_changed=2)).ok
    assert not verdict(result, Gate(max_changed=1)).ok


def test_a_change_that_its_replay_refutes_fails_on_optimized_kernels_too() -> None:
    """However few: the share is for changes that nothing could observe."""
    result = result_of(rung(LOGITS, name="written"), with_wrong(1, "optimized"))
    refuted = (Explanation(0, False, "Codes 9 and 0, which is no rounding tie."),)
    unseen = (Explanation(0, None, "The codes are not observable."),)
    outcomes = {
        explanations: verdict(
            replace(result, steps=(*steps, replace(last, explanations=explanations))), Gate()
        ).failures
        for explanations in (refuted, unseen)
        for *steps, last in [result.steps]
    }
    assert outcomes[unseen] == ()
    assert outcomes[refuted] == (
        "optimized changed 1 of 2000 predictions of written, which no rounding tie explains; "
        "example 0: Codes 9 and 0, which is no rounding tie.",
    )


def test_a_change_of_the_deployed_rung_that_its_replay_refutes_fails() -> None:
    """Also where the file as written has the same change, and an explanation for it."""
    wrong = with_wrong(1, "written"), with_wrong(1, "optimized")
    result = result_of(*wrong)
    tie, fault = Explanation(0, True, "A tie."), Explanation(0, False, "Codes 9 and 0.")
    steps = {(each.reference, each.candidate): each for each in result.steps}
    for stage, explanation in ((Stage.WRITTEN, tie), (Stage.OPTIMIZED, fault)):
        key = Stage.COMPRESSED, stage
        steps[key] = replace(steps[key], explanations=(explanation,))
    found = verdict(replace(result, steps=tuple(steps.values())), Gate())
    assert found.failures == (
        "optimized changed 1 of 2000 predictions of pytorch, which no rounding tie explains; "
        "example 0: Codes 9 and 0.",
    )


def test_the_allowed_drop_passes_and_more_fails() -> None:
    written, gate = rung(LOGITS, name="written"), Gate(max_drop=0.001)
    assert verdict(result_of(written, with_wrong(2, "optimized")), gate).ok
    worse = verdict(result_of(written, with_wrong(3, "optimized")), gate)
    assert worse.failures == (
        "The accuracy fell from 1.0000 in pytorch to 0.9985 in optimized, where 0.0010 is allowed.",
    )


def test_the_deployed_rung_is_the_one_scored() -> None:
    result = result_of(with_wrong(100, "written"), rung(LOGITS, name="optimized"))
    assert verdict(result, Gate(max_changed=100, max_kernel_changed=0.05)).ok
    written, optimized = with_wrong(100, "written"), with_wrong(101)
    result = result_of(written, optimized, terms=ANY_SCORE)
    assert verdict(result, Gate(max_changed=100, terms=ANY_SCORE)).failures == (
        "The accuracy fell from 1.0000 in pytorch to 0.9495 in optimized, where 0.0050 is allowed.",
    )


def test_logits_that_are_no_numbers_fail() -> None:
    broken = LOGITS.copy()
    broken[[7, 9], 1] = math.nan
    result = result_of(rung(LOGITS, name="written"), rung(broken, name="optimized"))
    assert verdict(result, Gate()).failures == (
        "optimized gave NaN or infinite logits for 2 of 2000 examples, the first of them "
        "example 7.",
        "optimized cannot be compared with written.",
        "The accuracy fell from 1.0000 in pytorch to nan in optimized, where 0.0050 is allowed.",
    )
    result = result_of(rung(broken, name="written"), rung(LOGITS, name="optimized"))
    assert "written cannot be compared with pytorch." in verdict(result, Gate()).failures


def test_logits_that_are_no_numbers_fail_on_both_sides_too() -> None:
    broken = rung(np.full_like(LOGITS, math.inf))
    rungs = dict.fromkeys((Stage.COMPRESSED, Stage.WRITTEN), broken)
    step = Step(Stage.COMPRESSED, Stage.WRITTEN, compare(broken, broken))
    assert not verdict(ParityResult(rungs, (step,), WEIGHTS), Gate()).ok


def test_weights_that_differ_fail(perfect: ParityResult) -> None:
    mismatches = (Mismatch("query", "code", "3", "4", (1, 2)), Mismatch("key", "code", "3", "4"))
    weights = {"model.onnx": replace(WEIGHTS["model.onnx"], mismatches=mismatches)}
    assert verdict(replace(perfect, weights=weights), Gate()).failures == (
        "model.onnx differs from the PyTorch model in 2 places, "
        "the first being query: code at [1, 2] is 4, not 3.",
    )


def test_a_comparison_of_no_weights_fails(perfect: ParityResult) -> None:
    nothing = {"model.onnx": WeightParity(0, 0, 0, 0, ())}
    assert verdict(replace(perfect, weights=nothing), Gate()).failures == (
        "model.onnx: no stored weight was compared, because the model has no linear layer.",
    )


@pytest.mark.parametrize(
    ("settings", "failure"),
    [
        ((), "onnx was to run in several shapes and ran in one."),
        ((ShapeSetting(8, None, 3, 0.5),), "onnx in batches of 8 changed 3 of 200 predictions."),
        (
            (ShapeSetting(1, 64, 3, 0.5),),
            "onnx in batches of 1 padded to 64 tokens changed 3 of 200 predictions.",
        ),
        (
            (ShapeSetting(8, None, 3, 0.5, (1, 2, 3), left=True, replays=(NO_TIE, TIE)),),
            "onnx in batches of 8 padded on the left changed 3 of 200 predictions without an "
            "explanation.",
        ),
        (
            (ShapeSetting(1, 64, 0, 0.5, replays=(NO_TIE, TIE)),),
            "onnx in batches of 1 padded to 64 tokens gives other logits than rounding explains "
            "for 1 of 2 replayed examples; example 9: The mask leaks.",
        ),
        (
            (ShapeSetting(1, 64, 0, 0.5),),
            "onnx in batches of 1 padded to 64 tokens: no example was replayed.",
        ),
        (
            (ShapeSetting(8, None, 200, math.nan),),
            "onnx in batches of 8 gave NaN or infinite logits.",
        ),
    ],
)
def test_shapes_that_decide_otherwise_fail(
    perfect: ParityResult, settings: tuple[ShapeSetting, ...], failure: str
) -> None:
    result = replace(perfect, shapes=(ShapeParity("onnx", 200, settings),))
    assert verdict(result, Gate()).failures == (failure,)


def test_a_few_tipped_ties_between_shapes_pass(perfect: ParityResult) -> None:
    settings = (
        ShapeSetting(8, None, 2, 0.5, replays=(TIE,)),
        ShapeSetting(1, 64, 0, 0.0, replays=(TIE,)),
    )
    assert verdict(replace(perfect, shapes=(ShapeParity("onnx", 200, settings),)), Gate()).ok


def test_changes_that_are_explained_count_against_no_share() -> None:
    """WNLI has 71 examples: one tie is 1.4 % of them, and 1.4 points."""
    result = result_of(rung(LOGITS[:71], name="written"), with_wrong(1, examples=71))
    assert len(verdict(result, Gate()).failures) == 2
    explained = tuple(
        replace(step, explanations=(Explanation(0, True, "A tie."),))
        if step.candidate is Stage.OPTIMIZED
        else step
        for step in result.steps
    )
    assert verdict(replace(result, steps=explained), Gate()).ok


def test_the_drop_that_ties_do_not_explain_is_held_to_the_limit() -> None:
    result = result_of(rung(LOGITS, name="written"), with_wrong(40), terms=ANY_SCORE)
    step = replace(result.steps[1], explanations=(Explanation(3, True, "A tie."),))
    result = replace(result, steps=(result.steps[0], step, *result.steps[2:]))
    gate = Gate(max_kernel_changed=1, terms=ANY_SCORE)
    assert verdict(result, gate).failures == (
        "The accuracy fell from 1.0000 in pytorch to 0.9800 in optimized; without 1 explained "
        "changes to 0.9805, where 0.0050 is allowed.",
    )


@pytest.mark.parametrize("stage", [Stage.WRITTEN, Stage.OPTIMIZED])
def test_logits_that_no_tie_explains_fail_though_no_prediction_changed(
    perfect: ParityResult, stage: Stage
) -> None:
    steps = tuple(
        replace(step, replayed=(TIE, NO_TIE))
        if (step.reference, step.candidate) == (Stage.COMPRESSED, stage)
        else step
        for step in perfect.steps
    )
    assert verdict(replace(perfect, steps=steps), Gate()).failures == (
        f"{stage.value} gives other logits than pytorch for 1 of 2 replayed examples, which no "
        "rounding tie explains, though their predictions are the same; example 9: The mask leaks.",
    )


def test_examples_must_be_replayed_unless_the_gate_says_otherwise(perfect: ParityResult) -> None:
    steps = tuple(replace(step, replayed=()) for step in perfect.steps)
    unreplayed = replace(perfect, steps=steps)
    assert verdict(unreplayed, Gate()).failures == (
        "No example of written was replayed.",
        "No example of optimized was replayed.",
    )
    assert verdict(unreplayed, Gate(require_replay=False)).ok


def test_an_engine_that_cannot_run_is_unproven_and_fails_under_strict(
    perfect: ParityResult,
) -> None:
    result = replace(perfect, unproven={Stage.ENGINE: Unproven("There is no GPU.", deployed=True)})
    found = verdict(result, Gate())
    assert found.ok
    assert found.checks[-1] == Check(
        "TensorRT engine", undecided="The engine is unproven: There is no GPU."
    )
    assert verdict(result, Gate(strict=True)).failures == (
        "The engine is unproven: There is no GPU.",
    )
    never_built = Unproven("No engine was built.", deployed=False)
    result = replace(perfect, unproven={Stage.ENGINE: never_built})
    assert verdict(result, Gate(strict=True)).ok


@pytest.mark.parametrize(("wrong", "ok"), [(1, True), (20, True), (21, False)])
def test_an_engine_that_runs_is_held_to_the_share(wrong: int, ok: bool) -> None:
    result = result_of(rung(LOGITS, name="written"), terms=ANY_SCORE)
    engine = with_wrong(wrong, "engine")
    step = Step(Stage.COMPRESSED, Stage.ENGINE, compare(result.rungs[Stage.COMPRESSED], engine))
    result = replace(
        result, rungs={**result.rungs, Stage.ENGINE: engine}, steps=(*result.steps, step)
    )
    failures = verdict(result, Gate(max_drop=1, terms=ANY_SCORE)).failures
    assert failures == (
        ()
        if ok
        else (
            "engine changed 21 of 2000 predictions of pytorch without an explanation, where 20 "
            "may; the first is example 0.",
        )
    )


def test_one_prediction_of_a_small_dev_set_is_no_fault_of_an_engine() -> None:
    result = result_of(rung(LOGITS[:71], name="written"))
    engine = with_wrong(1, "engine", examples=71)
    step = Step(Stage.COMPRESSED, Stage.ENGINE, compare(result.rungs[Stage.COMPRESSED], engine))
    result = replace(
        result, rungs={**result.rungs, Stage.ENGINE: engine}, steps=(*result.steps, step)
    )
    assert verdict(result, Gate()).ok


def test_the_json_holds_everything_but_the_logits() -> None:
    result = result_of(with_wrong(1, "written"))
    step = replace(result.steps[0], explanations=(Explanation(0, True, "A tie."),))
    result = replace(
        result,
        steps=(step, *result.steps[1:]),
        shapes=(ShapeParity("onnx", 4, (ShapeSetting(8, None, 4, math.inf),)),),
        codes=(CodeAgreement("norm", 3, 1, 0),),
        environment={"torch": "2.13.0"},
    )
    document = result.as_json()
    assert document == json.loads(json.dumps(document, allow_nan=False))
    assert document["schema"] == "nxmi-export/parity/3"
    assert document["dataset"] == {
        "task": "sst2",
        "labels": ["negative", "positive"],
        "primary_metric": "accuracy",
        "split": "validation",
        "examples": EXAMPLES,
        "source": "made up",
        "sha256": "0" * 64,
    }
    assert document["rungs"]["compressed"] == {
        "name": "pytorch",
        "examples": EXAMPLES,
        "batch_tokens": 16,
        "scores": {"accuracy": 1.0},
        "primary": 1.0,
        "non_finite_examples": [],
    }
    step_json, deployed, shifted, optimized = document["steps"]
    assert (step_json["reference"], step_json["candidate"]) == ("compressed", "written")
    assert step_json["comparison"]["changes"][0]["texts"] == ["sentence 0"]
    assert step_json["explanations"][0]["reason"] == "A tie."
    assert step_json["unexplained"] == []
    differences = step_json["comparison"]
    assert (differences["different"], differences["first_different"]) == (1, 0)
    assert (deployed["reference"], deployed["candidate"]) == ("compressed", "optimized")
    assert (shifted["reference"], shifted["candidate"]) == ("written", "shifted")
    assert shifted["comparison"]["first_different"] is None
    assert (optimized["reference"], optimized["candidate"]) == ("written", "optimized")
    assert document["weights"]["model.onnx"]["equal"] is True
    assert document["shapes"][0]["settings"][0]["largest_logit_gap"] is None
    assert document["codes"] == [
        {"module": "norm", "equal": 3, "off_by_one": 1, "worse": 0, "rate": 0.75}
    ]
    assert document["environment"] == {"torch": "2.13.0"}


def test_a_score_that_is_no_number_is_null_in_the_json() -> None:
    document = result_of(rung(LOGITS * np.float32(math.nan), name="written")).as_json()
    assert document["rungs"]["written"]["primary"] is None
    assert document["steps"][0]["comparison"]["largest_logit_gap"] is None
    json.dumps(document, allow_nan=False)


def test_an_empty_result_has_a_json_too() -> None:
    document = ParityResult({}).as_json()
    assert document["dataset"] is None
    assert document["weights"] == {}
    assert document["rungs"] == {}


def with_int4(candidate: RungResult | None) -> ParityResult:
    """A result of an artefact with model.int4.onnx; None where that was not run."""
    written = rung(LOGITS, name="written")
    result = result_of(written, terms=ANY_SCORE)
    weights = {**result.weights, "model.int4.onnx": WEIGHTS["model.onnx"]}
    if candidate is None:
        return replace(result, weights=weights)
    step = Step(Stage.WRITTEN, Stage.INT4, compare(written, candidate))
    rungs, probes = {**result.rungs, Stage.INT4: candidate}, probes_of(Stage.INT4)
    steps = (*result.steps, step)
    return replace(result, rungs=rungs, steps=steps, weights=weights, probes=probes)


def test_an_int4_file_must_give_every_bit_and_be_run() -> None:
    gate = Gate(terms=ANY_SCORE)
    assert verdict(with_int4(rung(LOGITS, name="int4")), gate).ok
    logits = LOGITS.copy()
    logits[0, 0] = np.nextafter(logits[0, 0], np.float32(9))
    (failure,) = verdict(with_int4(rung(logits, name="int4")), gate).failures
    assert failure.startswith("int4 gave other logits than written for 1 of ")
    assert verdict(with_int4(None), gate).failures == (
        "The rung 'int4' was not run.",
        "The INT4 file was not compared with the ONNX file that it was packed from.",
    )


def test_changed_predictions_are_no_condition_unless_the_gate_limits_them(
    perfect: ParityResult,
) -> None:
    name = "changed predictions"
    assert name not in {check.name for check in verdict(perfect, Gate()).checks}
    limited = verdict(perfect, Gate(max_flips=0)).checks
    assert [check.failures for check in limited if check.name == name] == [()]


def test_a_manifest_that_says_otherwise_is_a_condition_of_its_own(perfect: ParityResult) -> None:
    """The graph is right, and no weight is said to differ."""
    record = Mismatch("layer.0", "record in manifest.json", "storage='int8'", "none")
    failed = verdict(replace(perfect, records=(record,)), Gate())
    assert failed.failures == (
        "manifest.json says otherwise than the graphs in 1 places, the first being layer.0: record "
        "in manifest.json is none, not storage='int8'; export the model again.",
    )
    (check,) = (each for each in failed.checks if each.failures)
    assert check.name == "manifest"
