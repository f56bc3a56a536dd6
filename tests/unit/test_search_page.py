import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from nxmi_export.recipe import Placement
from nxmi_export.report.scheme_map import by_block, scheme_map
from nxmi_export.report.schemes_in_words import int4_as_stored, schemes_in_words
from nxmi_export.report.search_page import search_page
from nxmi_export.report.search_tables import ranked_table, search_summary_table
from tests.unit.search_facts import facts

_VOID = {"meta", "wbr"}


class Page(HTMLParser):
    """Its text; refuses tags that do not close in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_closes_whatever_it_opens_and_escapes_names() -> None:
    page = Page(search_page(facts(latency=True)))
    assert "dense <minilm> & more, bert;" in page.text


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = search_page(facts())
    assert set(re.findall(r"https?://[^\"]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script|<link|<img|href=|src=|url\(|@import", text)


def test_the_page_is_made_for_phones_and_dark_rooms() -> None:
    text = search_page(facts())
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert text.count("<svg") == 2  # a wide and a narrow picture, of which one is shown
    assert "@media (max-width: 640px)" in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_says_how_to_train_the_best() -> None:
    assert (
        "nxmi-export compress '../dense <minilm> & more' --task mrpc --recipe ranked/01.yaml "
        "-o model.pt" in Page(search_page(facts())).text
    )


def test_the_page_repeats_what_the_search_read_its_model_and_texts_with() -> None:
    found = facts()
    found["source"]["base"] = "../config"
    found["options"]["max_length"] = 64
    assert "--base ../config --max-length 64 --recipe" in Page(search_page(found)).text


def test_the_page_lists_every_ranked_configuration() -> None:
    found = facts()
    text = Page(search_page(found)).text
    for each in found["ranked"]:
        assert each["recipe"] in text
        assert f"{each['divergence']:.4g}" in text


def test_the_page_says_below_its_figures_what_they_are_of() -> None:
    text = Page(search_page(facts(latency=True))).text
    figures, _ = text.split("Size and what it costs")
    assert figures.endswith(
        "Note: latencies cover the encoder's linears alone. Note: metrics, the dense model's too, "
        "are on examples of the train set, on which it was most likely fine-tuned: they serve to "
        "rank, and say little of new texts. "
    )


def test_the_page_says_what_giving_up_early_may_have_cost() -> None:
    assert (
        "Per component: 905 configurations within the budget, 829 of them given up early; 18.1% of "
        "the examples needed; probability that this lost one of the best: at most 0.05."
        in Page(search_page(facts())).text
    )


@pytest.mark.parametrize(("latency", "times"), [(True, 1), (False, 0)])
def test_a_column_of_latencies_stands_where_there_are_some(latency: bool, times: int) -> None:
    assert search_page(facts(latency=latency)).count("<th>latency, measured</th>") == times


def test_linears_are_laid_out_by_block() -> None:
    schemes = {
        "bert.encoder.layer.0.attention.self.query": "int8",
        "bert.encoder.layer.0.output.dense": "int4",
        "bert.encoder.layer.1.output.dense": "2:4",
        "pooler": "dense",
    }
    assert by_block(schemes) == {
        "block 0": {"attention.self.query": "int8", "output.dense": "int4"},
        "block 1": {"output.dense": "2:4"},
        "": {"pooler": "dense"},
    }
    text = scheme_map(by_block(schemes))
    assert text.count("<tr>") == 4
    assert text.count("<td></td>") == 9 - 4  # three rows and columns, four schemes


def test_fewer_bits_have_more_colour() -> None:
    rows = {"1": {text: text for text in ("dense", "2:4", "int8", "int4", "2:4+int4", "1:4+int4")}}
    tints = [int(found) for found in re.findall(r"--tint: (\d+)", scheme_map(rows))]
    assert tints == [0, 30, 30, 45, 60, 60]


@pytest.mark.parametrize(
    ("schemes", "expected"),
    [
        ({"query": "int4", "key": "int4"}, "int4 everywhere"),
        (
            {"query": "int4", "attention_output": "2:4", "key": "int4"},
            "int4: query, key; 2:4: attention output",
        ),
        ({str(place): "int4" if place % 3 else "2:4" for place in range(9)}, "6 int4, 3 2:4"),
    ],
)
def test_schemes_are_told_briefly(schemes: Mapping[str, str], expected: str) -> None:
    assert schemes_in_words(schemes) == expected


@pytest.mark.parametrize("placement", Placement)
def test_int4_is_told_to_be_stored_as_int8_wherever_activations_are_rounded(
    placement: Placement,
) -> None:
    told = int4_as_stored([None, 8, 4], placement)
    assert int4_as_stored([None, 8], placement) == ()
    if placement is Placement.WEIGHTS:
        assert told == ()
        return
    assert told == (
        f"under placement: {placement} files hold INT4 weights as codes of 8 bits each; packed to "
        "4 they are under placement: weights, by export --int4-blocks",
    )


def printed(table: object) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return " ".join(capture.get().replace("│", " ").split())


def test_the_table_of_ranked_configurations_counts_as_the_budget_does() -> None:
    found: dict[str, Any] = facts()
    first = found["ranked"][0]
    assert f" {first['with_metadata']:.2%} {first['divergence']:.5f} " in printed(
        ranked_table(found)
    )
    found["budget"]["size"]["metadata"] = False
    first["nominal"] = 0.0625
    text = printed(ranked_table(found))
    assert " 6.25% " in text
    assert "size nominal, of the encoder linears in float32" in text


def test_the_summary_says_what_was_scored_and_where_it_lies() -> None:
    text = printed(search_summary_table(facts(latency=True), {"page": "found/[b].html"}))
    assert "905 configurations within the budget scored, 829 of them given up early" in text
    assert "latency measured, onnxruntime" in text
    assert "page found/[b].html" in text


def test_the_best_of_a_search_that_is_not_among_the_ranked_is_named_with_its_file() -> None:
    found = facts()
    winner = {**found["measured"][16], "rank": 17, "recipe": "ranked/17.yaml"}
    found["winners"] = {"layer": found["winners"]["component"], "component": winner}
    told = f"rank 17, divergence {winner['divergence']:.4g}, ranked/17.yaml"
    assert f"The best per component: {told}." in Page(search_page(found)).text
    text = " ".join(printed(search_summary_table(found, {})).split())
    assert f"best per component {told}" in text
    assert "best per layer" not in text
