"""The Markdown summary: a verdict, a row for each dev set, a sentence for all that is open."""

from dataclasses import replace

from parity_results import artefact_storing, deployed

from nxmi_export.parity import Gate, ParityResult, judge_run
from nxmi_export.report.markdown_summary import markdown_summary


def _on_split(result: ParityResult, split: str) -> ParityResult:
    rungs = {
        stage: replace(rung, dataset=replace(rung.dataset, split=split))
        for stage, rung in result.rungs.items()
    }
    return replace(result, rungs=rungs)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_run_that_passed() -> None:
    text = markdown_summary(judge_run([deployed(3)], Gate()), artefact_storing())
    lines = text.splitlines()
    assert lines[:5] == [
        "# Parity passed",
        "",
        "model.artefact, exported from model.pt",
        "with a margin of 0.5 points at 95 % confidence; all dev sets together: **equivalent**.",
        "",
    ]
    heading, rule, row = lines[5:]
    assert len(_cells(heading)) == len(_cells(rule)) == len(_cells(row)) == 11
    expected = ["sst2 validation", "2000", "accuracy", "1.0000", "0.9985", "-0.15"]
    # The rung as written changed nothing; kernels changed three.
    assert _cells(row) == [*expected, "-0.39 to -0.00", "equivalent", "3", "0", "passed"]


def test_a_run_that_failed_says_why_and_what_is_open() -> None:
    results = [
        _on_split(deployed(100), "one"),
        _on_split(deployed(0, examples=70), "other"),
    ]
    run = judge_run(results, Gate(max_drop=1, max_kernel_changed=1), ["Beware of *a|b*."])
    text = markdown_summary(run, artefact_storing())
    assert text.startswith("# Parity failed\n")
    assert "all dev sets together: **inferior**" in text
    rows = [_cells(line)[-1] for line in text.splitlines() if line.startswith("| sst2")]
    assert rows == ["**failed**", "passed"]
    _, failed, open_questions, warnings = text.split("\n## ")
    assert failed.startswith("Failed\n\n- sst2 one: The accuracy fell from 1.0000 in pytorch")
    assert open_questions.startswith("Not decided\n\n- sst2 other: A drop of the accuracy beyond")
    assert warnings == "Warnings\n\n- Beware of \\*a\\|b\\*.\n"


def test_scores_that_were_not_compared() -> None:
    run = judge_run([deployed(0, examples=1, task="mrpc")], Gate())
    text = markdown_summary(run, artefact_storing())
    (row,) = (line for line in text.splitlines() if line.startswith("| mrpc"))
    assert "not compared" in row
    assert row.count(" | ") == 10
    assert "all dev sets together" not in text
