"""What the tables of a parity run say about rungs, layers and changed examples."""

import numpy as np
from parity_models import rung
from parity_results import artefact_storing, deployed
from rich.console import Console
from rich.table import Table

from nxmi_export.parity import (
    Explanation,
    Gate,
    ParityResult,
    Stage,
    Step,
    Verdict,
    compare,
    judge_run,
    score_statistics,
)
from nxmi_export.parity.statistics import Terms
from nxmi_export.report.parity_tables import changes_table, ladder_table, proof_table, scores_table

LOGITS = np.array([[1, 0], [0, 1]] * 4, np.float32)


def _text(*tables: Table) -> str:
    console = Console(width=200, color_system=None)
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
    text = _text(*changes_table(Step(Stage.COMPRESSED, Stage.WRITTEN, comparison, explanations)))
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


def test_no_table_where_nothing_changed() -> None:
    step = Step(Stage.COMPRESSED, Stage.WRITTEN, compare(rung(LOGITS), rung(LOGITS)))
    assert list(changes_table(step)) == []


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
