"""A certificate as it is read: in a terminal of 80 columns and wider, and on a page."""

import io
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from certificate_facts import BLOCKS, HOSTILE, LINEARS, REASON, certificate, facts
from rich.console import Console

from nxmi_export.certificate import Answer, Certificate, Claim
from nxmi_export.certificate.claims import overall
from nxmi_export.certificate.document import CellRecord
from nxmi_export.report.certificate_section import certificate_section
from nxmi_export.report.certificate_table import HEADINGS, WORDS, certificate_tables, unproved
from nxmi_export.report.markup import element
from tests.html_reader import Element, read_html


def printed(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in certificate_tables(facts()):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def page() -> Element:
    return read_html(f"<!doctype html>\n{element('main', *certificate_section(facts()))}\n")


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_a_module_and_a_column_a_claim(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    cells = [" ".join(line.split()) for line in lines]
    at = cells.index(BLOCKS[1])
    assert cells[at + 1] == "attention.self.query ✓ yes ✓ yes ✗ no ? open – n/a ? open ? open"
    assert cells[at + 2] == "attention.output.dense ✓ yes ✓ yes ✓ yes ? open – n/a ? open ? open"
    assert "proved of claimed 4/4 4/4 3/4 0/4 n/a 0/4 0/4" in cells


def test_the_answer_and_the_legend_are_told_in_words() -> None:
    lines = [" ".join(line.split()) for line in printed(80)]
    assert lines[0] == "Deployment certificate: refuted (no engine)"
    assert (
        "✓ yes: proved; ✗ no: refuted; ? open: unproven; – n/a: not claimed by the recipe" in lines
    )


def test_what_is_not_proved_is_told_with_its_reason_the_refuted_first() -> None:
    found = unproved(facts())
    assert [(claim, len(cells)) for claim, cells in found] == [
        (Claim.PARITY, 1),
        (Claim.INT8_IN, 4),
        (Claim.ELIGIBLE, 4),
        (Claim.SPARSE, 4),
    ]
    text = " ".join(" ".join(printed(200)).split())
    assert f"{BLOCKS[1]}.{LINEARS[0]}: code is 1, not {HOSTILE} (build.log line 7)" in text
    assert f"{BLOCKS[0]}.{LINEARS[0]}: {REASON}" in text


def test_every_claim_has_a_heading_and_every_answer_a_word() -> None:
    assert set(HEADINGS) == set(Claim)
    assert set(WORDS) == {answer.value for answer in Answer}
    assert len({sign for sign, _, _ in WORDS.values()}) == len(WORDS)


def test_the_page_has_every_module_and_its_answers() -> None:
    (table,) = (each for each in page().all("table") if each.all("caption")[0].text == "Linears")
    rows = [[cell.text for cell in row.all("td")] for row in table.all("tr") if row.all("td")]
    assert rows[2] == ["✓ yes", "✓ yes", "✗ no", "? open", "– n/a", "? open", "? open"]
    names = [each.text for each in table.all("th", scope="row")]
    assert names == [f"{block}.{name} 2:4+int8" for block, name in product(BLOCKS, LINEARS)]


def test_the_page_tells_the_answer_and_what_each_claim_means() -> None:
    text = page().text
    assert "✗ Everything together: refuted" in text
    assert "the numbers stored in every ONNX file have it, along the reduction axis" in text
    assert f"code is 1, not {HOSTILE} (build.log line 7)" in text
    assert not page().all("b")  # of the name that would do harm


def test_a_certificate_that_is_not_valid_is_told_with_its_reason() -> None:
    html = element("main", *certificate_section("it is old & <gone>"))
    assert read_html(f"<!doctype html>\n{html}\n").text == (
        "? No valid certificate: it is old & <gone>."
    )


def test_a_certificate_reads_back_equal() -> None:
    assert Certificate.from_json(facts()) == certificate()


def _recounted(change: Callable[[Certificate], Certificate]) -> dict[str, Any]:
    return change(certificate()).as_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made.model_copy(update={"model": {}}), "less claimed of the model, and not "),
        (
            lambda made: made.model_copy(
                update={
                    "linears": tuple(
                        each.model_copy(update={"claims": {}}) for each in made.linears
                    )
                }
            ),
            "less claimed of bert.encoder.layer.0.attention.self.query, and not ",
        ),
        (
            lambda made: made.model_copy(
                update={
                    "attentions": (made.attentions[0].model_copy(update={"claims": made.model}),)
                }
            ),
            "lint, mapping, merged_qkv, no_float, runs, scales claimed of bert.encoder.layer.0.",
        ),
        (
            lambda made: made.model_copy(
                update={
                    "model": made.model
                    | {Claim.MAPPING: CellRecord(answer=Answer.PROVED, why="it is said")}
                }
            ),
            "mapping proved without an engine",
        ),
    ],
)
def test_a_certificate_that_says_too_little_or_too_much_is_none(
    change: Callable[[Certificate], Certificate], said: str
) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        Certificate.from_json(_recounted(change))


@pytest.mark.parametrize(
    ("answers", "together"),
    [
        ([], "unproven"),
        (["not claimed"], "unproven"),
        (["proved"], "proved"),
        (["proved", "not claimed"], "proved"),
        (["proved", "unproven"], "unproven"),
        (["proved", "unproven", "refuted"], "refuted"),
    ],
)
def test_one_refutation_refutes_and_nothing_claimed_proves_nothing(
    answers: list[str], together: str
) -> None:
    assert overall(map(Answer, answers)) == together
