"""The picture of a comparison: a bar for everything that ran, at one scale."""

import copy
import xml.etree.ElementTree as ET

import pytest
from parity_pages import bench

from nxmi_export.report.bench_chart import bench_chart

SVG = "{http://www.w3.org/2000/svg}"


def texts(root: ET.Element, anchor: str | None = None) -> list[str]:
    return [
        each.text or ""
        for each in root.iter(f"{SVG}text")
        if anchor is None or each.get("text-anchor") == anchor
    ]


def test_a_bar_is_as_long_as_its_speed() -> None:
    root = ET.fromstring(bench_chart(bench()))
    assert root.findtext(f"{SVG}title") == "Times as fast as PyTorch, dense float32"
    bars = root.findall(f"{SVG}rect")
    assert [each.get("class") for each in bars] == ["baseline", "bar"]
    widths = [float(each.get("width", "nan")) for each in bars]
    assert widths[1] == pytest.approx(2.5 * widths[0], abs=0.2)
    assert texts(root, "end") == ["PyTorch, dense float32", "onnxruntime, model.cpu.onnx"]
    assert texts(root, "start") == ["1.00×", "2.50×"]
    assert "Batch 1 x 128 tokens" in texts(root)
    assert len([each for each in root.iter(f"{SVG}path") if each.get("class") == "interval"]) == 1


def test_a_contender_of_any_name_is_text() -> None:
    document = copy.deepcopy(bench())
    document["contenders"]["onnxruntime"]["what"] = "<script>&"
    root = ET.fromstring(bench_chart(document))
    assert "<script>&" in texts(root, "end")


def test_nothing_that_ran_leaves_an_empty_picture() -> None:
    document = copy.deepcopy(bench())
    absent = {"ran": False, "reason": "none"}
    for found in (*document["workloads"], *document["texts"]):
        found["results"] = dict.fromkeys(found["results"], absent)
    root = ET.fromstring(bench_chart(document))
    assert root.findall(f"{SVG}rect") == []


def test_the_picture_is_as_wide_as_its_longest_name() -> None:
    document = copy.deepcopy(bench())
    what = document["contenders"]["onnxruntime"]["what"] = "a file of a very long name, " * 4
    root = ET.fromstring(bench_chart(document))
    left, _, width, _ = map(float, root.attrib["viewBox"].split())
    (name,) = (each for each in root.iter(f"{SVG}text") if each.text == what)
    assert float(name.get("x", "nan")) - left > 6 * len(what)
    assert left + width == 860  # what stands on the right keeps its place
    narrow = ET.fromstring(bench_chart(bench()))
    assert narrow.attrib["viewBox"].startswith("0 0 860 ")
