import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import pytest

from nxmi_export.report.axis import Axis
from nxmi_export.report.pareto_chart import NARROW, WIDE, pareto_chart, size_key
from tests.unit.search_facts import SCHEMES, facts

SVG = "{http://www.w3.org/2000/svg}"


def drawn(width: int = WIDE, **options: Any) -> ElementTree.Element:
    return ElementTree.fromstring(pareto_chart(facts(**options), width))


def texts(root: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def marks(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    """Those that are no part of a legend, as they say what they are."""
    every = [*root.iter(f"{SVG}circle"), *root.iter(f"{SVG}path")]
    return [each for each in every if each.get("class") == kind and len(each)]


def _entries(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for which in ("ranked", "measured", "frontier", "uniform"):
        yield from found[which]


def test_a_size_budget_has_a_panel_of_divergence_and_one_of_the_metric() -> None:
    found = texts(drawn())
    assert "KL divergence from dense (nats)" in found
    assert "mean of accuracy and f1, before training" in found
    assert found.count("size in % of float32, with metadata") == 2
    assert not any(text.startswith("latency") for text in found)


def test_latencies_have_a_panel_that_says_where_they_come_from() -> None:
    found = texts(drawn(latency=True))
    assert found.count("latency in ms, measured") == 2
    assert found.count("dense model") == 3  # once in each legend but that of divergence by size


def test_a_regression_is_not_told_in_nats() -> None:
    found = texts(drawn(task="stsb"))
    assert "squared difference from dense" in found
    assert not any("nats" in text for text in found)


def test_every_ranked_configuration_bears_its_rank() -> None:
    root = drawn()
    numbers = [each.text for each in root.iter(f"{SVG}text") if each.get("class") == "number"]
    assert sorted(map(str, numbers)) == sorted([*"12345"] * 2)  # two panels
    # The best is drawn last, on top of its neighbours.
    assert numbers[4] == numbers[9] == "1"


def test_one_scheme_everywhere_is_drawn_at_its_size() -> None:
    root = drawn()
    assert len(marks(root, "labelled")) == 2 * len(SCHEMES)  # two panels
    assert set(SCHEMES) <= set(texts(root))
    titles = [each[0].text or "" for each in marks(root, "labelled")]
    assert any(
        text.startswith(
            "2:4+int8 everywhere\n15.62% with metadata, 12.50% nominal\ndivergence 0.022\nmetric "
        )
        for text in titles
    )


def test_smaller_is_left_and_closer_to_the_dense_model_is_lower() -> None:
    line = next(
        each
        for each in drawn().iter(f"{SVG}polyline")
        if len(each.attrib["points"].split()) == len(facts()["frontier"])
    )
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert points == sorted(points)
    heights = [y for _, y in points]
    assert heights == sorted(heights)  # SVG counts from the top


def test_what_is_not_positive_has_no_place_on_a_logarithmic_axis() -> None:
    found = facts()
    for entry in _entries(found):
        entry["divergence"] = 0.0
    root = ElementTree.fromstring(pareto_chart(found))
    assert len(marks(root, "numbered")) == len(found["ranked"])  # of the metric's panel alone


def test_an_undefined_metric_has_no_panel() -> None:
    found = facts()
    for entry in _entries(found):
        entry["metric"] = None
    root = ElementTree.fromstring(pareto_chart(found))
    assert not any("before training" in text for text in texts(root))


def test_a_search_without_anything_to_draw_says_so() -> None:
    found = facts()
    for entry in _entries(found):
        entry["metric"], entry["divergence"] = None, 0.0
    assert "no candidate differs from the dense model" in pareto_chart(found)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_everything_lies_inside_of_the_picture(width: int) -> None:
    root = drawn(width, latency=True)
    height = float(root.attrib["height"])
    for each in root.iter(f"{SVG}circle"):
        assert 0 < float(each.attrib["cx"]) < width
        assert 0 < float(each.attrib["cy"]) < height
    for each in root.iter(f"{SVG}text"):
        x, taken = float(each.attrib["x"]), 7 * len(each.text or "")
        anchor = each.get("text-anchor", "start")
        left = x - {"start": 0, "middle": taken / 2, "end": taken}[anchor]
        assert left >= -8, each.text
        assert left + taken <= width + 24, each.text
        assert 0 < float(each.attrib["y"]) < height


def test_both_themes_colour_everything_that_is_drawn() -> None:
    text = pareto_chart(facts(latency=True))
    light, dark = re.findall(r"svg \{ (background[^}]*)\}", text)
    names = [set(re.findall(r"(--[a-z]+):", theme)) for theme in (light, dark)]
    assert names[0] == names[1] == set(re.findall(r"var\((--[a-z]+)\)", text))
    assert light != dark


def test_it_needs_nothing_from_elsewhere() -> None:
    text = pareto_chart(facts())
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|url\(|<script|<image|@import", text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, "with_metadata"),
        ({"target": 0.1, "metadata": True}, "with_metadata"),
        ({"target": 0.1, "metadata": False}, "nominal"),
    ],
)
def test_the_size_is_counted_as_the_budget_counts_it(size: Any, expected: str) -> None:
    assert size_key({"budget": {"size": size, "latency": None}}) == expected


@pytest.mark.parametrize(
    ("values", "logarithmic", "ticks"),
    [
        ([9.4, 28.1], False, (5, 10, 15, 20, 25, 30)),
        ([0.0011, 0.18], True, (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)),
        ([0.00011, 0.18], True, (0.0001, 0.001, 0.01, 0.1, 1)),
    ],
)
def test_an_axis_spans_its_values_with_round_ticks(
    values: Sequence[float], logarithmic: bool, ticks: tuple[float, ...]
) -> None:
    axis = Axis.over(values, logarithmic=logarithmic)
    assert axis.ticks == pytest.approx(ticks)
    assert axis.share(axis.ticks[0]) == 0
    assert axis.share(axis.ticks[-1]) == 1
    assert all(0 <= axis.share(value) <= 1 for value in values)
