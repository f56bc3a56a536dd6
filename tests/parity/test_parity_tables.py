"""What the tables of a parity run say about rungs, layers and changed examples."""

import numpy as np
import pytest
from parity_models import rung
from parity_results import artefact_storing, deployed
from rich.console import Console
from rich.table import Table

from nxmi_export.glue import task_named
from nxmi_export.parity import (
    Explanation,
    Gate,
    ParityResult,
    RungResult,
    Stage,
    Step,
    Verdict,
    compare,
    judge_run,
    score_statistics,
)
from nxmi_export.parity.statistics import Terms
from nxmi_export.report.changes_table import changes_table
from nxmi_export.report.parity_tables import ladder_table, proof_table, scores_table

LOGITS = np.array([[1, 0], [0, 1]] * 4, np.float32)
SST2 = task_named("sst2")


def _text(*tables: Table, width: int = 200) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        for table in tables:
            console.print(table)
    return capture.get()


def _proof(*storages: str) -> str:
    result = ParityResult({Stage.COMPRESSED: rung(LOGITS)})
    return _text(proof_table(result, Verdict(()), artefact_storing(*storages), None))


def test_only_sparse_int8_counts_as_sparse_on_stored_integers() -> None:
    text = _proof("2:4+int8", "2:4+int8", "int8", "2:4", "dense")
    assert "2 x 2:4+int8, 1 x int8, 1 x 2:4, 1 x dense" in text
    assert "2 of 4 compressed" in text


def test_sparse_floats_are_no_sparse_integers() -> None:
    assert "0 of 3 compressed" in _proof("2:4", "2:4", "2:4", "dense")


def test_what_probes_reach_and_what_came_of_them_is_told() -> None:
    result = deployed(0)
    text = _text(proof_table(result, Verdict(()), artefact_storing("int8"), None))
    assert (
        "64 tokens, 90 different ids and token types 0, 1, of 64 positions; the dev set 20 tokens, "
        "30 different ids and token type 0" in text
    )
    assert "5 of 5 replayed probes explained" in text
    assert "0 of 5 probes differ in a bit from written" in text


def test_each_changed_example_says_what_is_known_and_the_worst_come_first() -> None:
    after = LOGITS.copy()
    after[:4] = after[:4, ::-1]
    comparison = compare(rung(LOGITS, name="pytorch"), rung(after, name="onnx"))
    explanations = (
        Explanation(0, True, "A tie."),
        Explanation(1, None, "Its codes are hidden."),
        Explanation(2, False, "No tie."),
    )
    text = _text(
        *changes_table(Step(Stage.COMPRESSED, Stage.WRITTEN, comparison, explanations), SST2)
    )
    assert "changed by onnx: 4 (2 unexplained, 1 not observable, 1 explained)" in text
    places = [
        text.index(words)
        for words in (
            "unexplained: No tie.",
            "unexplained: It was not examined.",
            "not observable: Its codes are hidden.",
        )
    ]
    assert places == sorted(places)
    assert "A tie." not in text  # only three are shown


def test_a_changed_answer_is_shown_before_and_after_and_next_to_its_label() -> None:
    after = LOGITS.copy()
    after[1] = (0.75, 0.5)
    comparison = compare(rung(LOGITS, name="pytorch"), rung(after, name="onnx"))
    text = _text(*changes_table(Step(Stage.COMPRESSED, Stage.WRITTEN, comparison), SST2))
    first, second = (line.split("│")[1:-1] for line in text.splitlines() if line[0] == "│")
    assert [cell.strip() for cell in first[2:4]] == ["positive → negative", "1.0000"]
    assert second[2].strip() == "label: positive"


def test_a_regression_has_scores_and_no_margin() -> None:
    before, after = np.array([[2.5], [1.0]], np.float32), np.array([[2.75], [1.0]], np.float32)
    rungs = (rung(each, name=name, task="stsb") for each, name in ((before, "a"), (after, "b")))
    step = Step(Stage.COMPRESSED, Stage.WRITTEN, compare(*rungs))
    text = _text(*changes_table(step, task_named("stsb")))
    assert "2.500 → 2.750" in text
    assert "label: 0.000" in text
    assert "margin" not in text
    assert "nan" not in text


@pytest.mark.parametrize("task", ["sst2", "rte", "mrpc", "cola"])
def test_names_of_classes_stay_whole_in_a_narrow_terminal(task: str) -> None:
    facts = task_named(task)
    rungs = (rung(each, task=task) for each in (LOGITS, LOGITS[:, ::-1]))
    explanations = (Explanation(0, True, "The 1st code that differs is at encoder.layer.3. " * 3),)
    step = Step(Stage.COMPRESSED, Stage.WRITTEN, compare(*rungs), explanations)
    lines = _text(*changes_table(step, facts), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    answers = [line.split("│")[3].strip() for line in lines if line[0] == "│"]
    words = [word for answer in answers for word in answer.split()]
    assert set(words) == {*facts.labels, "→", "label:"}


ENGINE = {
    "int8": {"linears": {"int8": 12, "total": 12}, "attentions": {"int8": 2, "total": 2}},
    "sparse_kernels": {"verdict": "unproven"},
}
COVERAGE = "12 of 12 linears in INT8, 2 of 2 attentions fused in INT8; sparse kernels "


@pytest.mark.parametrize(
    ("sparse", "engine", "told"),
    [
        ("unproven", None, "unproven; it did not run here"),
        ("proved", rung(LOGITS), "proved; it ran 8 examples here; its speed is for bench to"),
    ],
    ids=["not run", "run"],
)
def test_of_an_engine_is_told_what_its_build_proves_and_whether_this_run_ran_it(
    sparse: str, engine: RungResult | None, told: str
) -> None:
    rungs = {Stage.COMPRESSED: rung(LOGITS)} | ({Stage.ENGINE: engine} if engine else {})
    facts = ENGINE | {"sparse_kernels": {"verdict": sparse}}
    text = _text(proof_table(ParityResult(rungs), Verdict(()), artefact_storing("int8"), facts))
    assert COVERAGE + told in text


def test_an_engine_that_was_not_built_says_so() -> None:
    (line,) = (each for each in _proof("int8").splitlines() if "TensorRT engine" in each)
    assert "not built" in line


def test_no_table_where_nothing_changed() -> None:
    step = Step(Stage.COMPRESSED, Stage.WRITTEN, compare(rung(LOGITS), rung(LOGITS)))
    assert list(changes_table(step, SST2)) == []


def test_the_shifted_rung_says_how_many_it_ran_and_whether_it_is_equal() -> None:
    written, shifted = rung(LOGITS, name="plain"), rung(LOGITS[:4], name="shifted")
    for logits, word in ((LOGITS[:4], "equal"), (LOGITS[:4] * np.float32(1.5), "0.5")):
        comparison = compare(rung(LOGITS[:4]), rung(logits))
        step = Step(Stage.WRITTEN, Stage.SHIFTED, comparison)
        rungs = {Stage.WRITTEN: written, Stage.SHIFTED: shifted}
        (line,) = (
            line
            for line in _text(ladder_table(ParityResult(rungs, (step,)))).splitlines()
            if "shifted, first 4" in line
        )
        assert word in line


def test_the_scores_say_what_is_proved_and_what_a_small_dev_set_cannot_tell() -> None:
    text = _text(scores_table(judge_run([deployed(3)], Gate())))
    assert "scores, margin 0.5 points, 95 % confidence" in text
    (line,) = (line for line in text.splitlines() if "deployment" in line)
    cells = [cell.strip() for cell in line.split("│")]
    assert cells[1:4] == ["sst2 validation", "deployment", "-0.15"]
    assert cells[5] == "equivalent"
    assert "cannot certify" not in text

    text = _text(scores_table(judge_run([deployed(0, examples=70)], Gate())))
    assert "│ inconclusive │" in text
    words = " ".join(text.split())
    assert "This dev set cannot certify a drop below 4.19 points" in words


def test_the_score_of_compression_is_shown_and_not_judged() -> None:
    result = deployed(0)
    compressed = result.rungs[Stage.COMPRESSED]
    wrong = LOGITS[np.arange(2000) % 8].copy()
    wrong[:200] = wrong[:200, ::-1]
    dense = rung(wrong, name="dense")
    statistics = score_statistics(dense, compressed, Terms())
    step = Step(Stage.DENSE, Stage.COMPRESSED, compare(dense, compressed), statistics=statistics)
    rungs = {Stage.DENSE: dense, **result.rungs}
    run = judge_run([ParityResult(rungs, (step, *result.steps))], Gate())
    (line,) = (each for each in _text(scores_table(run)).splitlines() if "compression" in each)
    cells = [cell.strip() for cell in line.split("│")]
    assert (cells[3], cells[5]) == ("+10.00", "not judged")


def test_scores_that_were_not_compared_say_so() -> None:
    text = _text(scores_table(judge_run([deployed(0, examples=1, task="mrpc")], Gate())))
    assert "scores were not compared" in text
    (line,) = (each for each in text.splitlines() if "deployment" in each)
    assert line.split("│")[5].strip() == "not compared"
    assert "found only class 0" in " ".join(text.split())
