"""The Markdown summary: a verdict, a row for each dev set, a sentence for all that is open."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from markdown_it import MarkdownIt
from parity_results import artefact_storing, deployed

from nxmi_export.parity import Gate, ParityResult, judge_run
from nxmi_export.report.markdown_summary import _plain, markdown_summary


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


class _Shown(HTMLParser):
    """What a reader sees: the texts between elements and comments, each for itself."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.elements: set[str] = set()
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.elements.add(tag)


# What GitHub makes of a text that Markdown has left alone.
_GITHUB = re.compile(r"@\w|#\d|:\w+:|https?://|www\.|\w@\w|\$.*\$", re.IGNORECASE)
_RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_HOSTILE = (
    "~~a~~ &lt;b&gt; &amp; <i>c</i> `d` *e* _f_ [g](h) ![i](j) <!-- k --> a|b a\\|b \\",
    "1. one",
    "12) twelve",
    "- item",
    "+ item",
    "=== under",
    "# heading",
    "> quoted",
    "~~~ fenced",
    "@someone, a@b.c, org/repo#1, #12 and GH:#3",
    "https://a.example/x_y, WWW.a.example, ftp://b.example and mailto:c@d.example",
    "$x$ and $$y$$, :tada: at 12:30",
    "[^1] [x]: http://a",
)


@pytest.mark.parametrize("text", _HOSTILE)
def test_a_warning_is_shown_as_it_is(text: str) -> None:
    run = judge_run([deployed(0, examples=70)], Gate(), [text])
    html = _RENDERER.render(markdown_summary(run, artefact_storing()))
    _check(_Shown(html.partition("<h2>Warnings</h2>")[2]), text, {"ul", "li", "span"})


@pytest.mark.parametrize("text", _HOSTILE)
def test_a_path_is_shown_as_it_is(text: str) -> None:
    artefact = replace(artefact_storing(), directory=Path(text))
    run = judge_run([deployed(0, examples=70)], Gate())
    html = _RENDERER.render(markdown_summary(run, artefact))
    subject = html.partition("<p>")[2].partition(", exported from")[0]
    _check(_Shown(subject), str(Path(text)), {"span"})


@given(st.text(st.sampled_from("ab1 .-+=)#>~`*_[](){}!<>&;|\\@:/$w\n\t\"'^"), max_size=24))
def test_any_text_is_shown_as_it_is_in_a_list_a_cell_and_alone(text: str) -> None:
    plain = _plain(text)
    for page, elements in (
        (f"- {plain}", {"ul", "li"}),
        (plain, {"p"}),
        (f"| a |\n|---|\n| {plain} |", {"table", "thead", "tbody", "tr", "th", "td"}),
    ):
        html = _RENDERER.render(page).replace("<th>a</th>", "")
        _check(_Shown(html), text, elements | {"span"})


def _check(shown: _Shown, text: str, elements: set[str]) -> None:
    assert "".join(shown.texts).strip() == " ".join(text.split())
    assert shown.elements <= elements
    assert not [each for each in shown.texts if _GITHUB.search(each)]


def test_scores_that_were_not_compared() -> None:
    run = judge_run([deployed(0, examples=1, task="mrpc")], Gate())
    text = markdown_summary(run, artefact_storing())
    (row,) = (line for line in text.splitlines() if line.startswith("| mrpc"))
    assert "not compared" in row
    assert row.count(" | ") == 10
    assert "all dev sets together" not in text
