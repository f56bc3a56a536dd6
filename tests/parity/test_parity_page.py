"""The page of a parity run: its structure, its numbers, what it escapes, and for whom it is."""

import re
from base64 import b64decode
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from parity_pages import CHANGED, HOSTILE, LAYERS, artefact, bench, document, engine
from parity_results import deployed

from nxmi_export.parity import Gate, Stage, judge_run
from nxmi_export.parity.document import run_document
from nxmi_export.report.bench_chart import bench_chart
from nxmi_export.report.changed_examples import MOST_SHOWN
from nxmi_export.report.drift_chart import drift_chart
from nxmi_export.report.ladder_chart import NARROW, WIDE, ladder_chart
from nxmi_export.report.parity_page import parity_page
from nxmi_export.report.parity_page_style import PARITY_PAGE_STYLE
from tests.html_reader import Element, read_html

COMMANDS = ("nxmi-export export 'a <b>'", "nxmi-export parity c --task sst2")


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return document()


@pytest.fixture(scope="module")
def source(facts: dict[str, Any]) -> str:
    return parity_page(facts, artefact(), engine=engine(), commands=COMMANDS)


@pytest.fixture(scope="module")
def page(source: str) -> Element:
    return read_html(source)


def section(page: Element, name: str) -> Element:
    (found,) = (each for each in page.all("section") if each.all("h2")[0].text == name)
    return found


def rows(table: Element) -> list[list[str]]:
    (body,) = table.all("tbody")
    return [[cell.text for cell in row if cell.tag in {"th", "td"}] for row in body.all("tr")]


def table_named(page: Element, start: str) -> Element:
    (found,) = (each for each in page.all("table") if each.all("caption")[0].text.startswith(start))
    return found


def test_the_verdict_comes_first_and_says_why(page: Element, facts: dict[str, Any]) -> None:
    (body,) = page.all("body")
    header, verdict = [each for each in body if each is not body][:2]
    assert (header.tag, verdict.attributes["class"]) == ("header", "verdict fails")
    assert verdict.all("h1")[0].text == "✗ Parity failed"
    failures = [f"sst2 validation: {each}" for each in facts["splits"][0]["failures"]]
    assert failures
    assert [each.text for each in verdict.all("li")][: len(failures)] == failures
    assert "model.artefact, exported from model.pt" in verdict.text


def test_a_run_that_passed_says_so_and_what_it_could_not_decide() -> None:
    run = judge_run([deployed(0, examples=70)], Gate())
    facts = run_document(artefact(), run, checkpoint="model.pt", max_length=64, gate=Gate())
    page = read_html(parity_page(facts, artefact()))
    (header,) = page.all("header")
    assert header.all("h1")[0].text == "✓ Parity passed"
    assert page.all("title")[0].text == "Parity passed: model.artefact"
    assert [each.text for each in header.all("h2")] == ["? Not decided"]
    (undecided,) = header.all("li")
    assert undecided.text.startswith("sst2 validation: A drop of the accuracy beyond 0.5 points")
    assert "? inconclusive" in [each.text for each in header.all("dd")]


def test_every_number_is_one_of_the_json_and_is_rounded_from_it(
    page: Element, facts: dict[str, Any]
) -> None:
    manifest = artefact().manifest.model_dump()
    known = set(numbers([facts, manifest, engine(), LAYERS]))
    shown = page.all("data")
    assert len(shown) > 400
    for each in shown:
        value = float(each.attributes["value"])
        assert value in known
        text, percent = each.text.removesuffix("%"), each.text.endswith("%")
        digits = len(text.partition("e")[0].partition(".")[2])
        exponent = int(text.partition("e")[2] or 0)
        # Half of the last digit shown; one more in the last place of three significant digits.
        tolerance = 0.5001 * 10.0 ** (exponent - digits)
        units = (100,) if percent else (1, 100, 1e-6)
        assert any(abs(float(text) - unit * value) <= tolerance for unit in units), each


def numbers(value: object) -> Iterator[float]:
    match value:
        case bool():
            return
        case int() | float():
            yield float(value)
        case dict():
            yield from numbers(list(value.values()))
        case list() | tuple():
            for each in value:
                yield from numbers(each)


def test_a_row_for_each_dev_set(page: Element, facts: dict[str, Any]) -> None:
    first, second = rows(section(page, "Dev sets").all("table")[0])
    split = facts["splits"][0]
    (found,) = (
        each["statistics"]
        for each in split["steps"]
        if (each["reference"], each["candidate"]) == ("compressed", "optimized")
    )
    assert first == [
        "sst2 validation2000 examples, accuracy",
        f"{split['rungs']['compressed']['primary']:.4f} → "
        f"{split['rungs']['optimized']['primary']:.4f}",
        f"{100 * found['difference']:+.2f} points, {100 * found['lower']:+.2f} to "
        f"{100 * found['upper']:+.2f}",
        "✗ inferior",
        f"{CHANGED}; in ONNX as written 1 unexplained",
        f"{100 * found['power']['floor']:.2f} points; with as many changes as seen "
        f"{100 * found['power']['detectable']:.2f}",
        "✗ failed",
    ]
    assert second[2:4] == ["–", "? not compared: <nothing> to compare"]


def test_what_was_and_was_not_shown_stands_under_each_dev_set(
    page: Element, facts: dict[str, Any]
) -> None:
    text = section(page, "sst2 validation").text
    (step,) = (
        each
        for each in facts["splits"][0]["steps"]
        if (each["reference"], each["candidate"]) == ("compressed", "optimized")
    )
    for reason in step["statistics"]["reasons"]:
        assert f"{reason['sentence']}." in text
    assert step["statistics"]["power"]["sentence"] in text
    assert f"{step['statistics']['method']}." in text


def test_changed_examples_are_capped_and_the_page_says_so(page: Element) -> None:
    written, optimized = section(page, "sst2 validation").all("details")
    assert written.all("summary")[0].text == (
        "2 of 2000 predictions changed from pytorch to written: 1 unexplained, 1 explained"
    )
    assert optimized.all("summary")[0].text == (
        f"{CHANGED} of 2000 predictions changed from pytorch to optimized: 1 unexplained, "
        f"{CHANGED - 2} not observable, 1 explained"
    )
    (table,) = optimized.all("table")
    assert table.all("caption")[0].text == (
        f"The first {MOST_SHOWN} of {CHANGED}, unexplained ones first; the JSON file has all"
    )
    assert len(rows(table)) == MOST_SHOWN < CHANGED


def test_a_changed_example_says_what_happened_to_it_the_worst_first(page: Element) -> None:
    written, _ = section(page, "sst2 validation").all("details")
    unexplained, tie = rows(written.all("table")[0])
    assert unexplained == [
        "1 (idx 101)",
        "sentence 1",
        "1 positive",
        "1 positive → 0 negative",
        "1 → 1",
        "✗ unexplained: It was not examined.",
    ]
    assert tie[1] == HOSTILE
    assert tie[5] == (
        "✓ explained: A rounding tie (bert.encoder.layer.0.output_quantizer at [3, 7]: 12.5 and "
        "12.499 steps have the codes 12 and 13)."
    )


def test_a_change_that_is_no_tie_names_the_layer_where_codes_differ_first() -> None:
    facts = document()
    (step,) = (
        each
        for each in facts["splits"][0]["steps"]
        if (each["reference"], each["candidate"]) == ("compressed", "written")
    )
    step["explanations"][0] |= {"explained": False, "reason": "It is no rounding tie."}
    written, _ = section(read_html(parity_page(facts, artefact())), "sst2 validation").all(
        "details"
    )
    assert rows(written.all("table")[0])[0][5] == (
        "✗ unexplained: It is no rounding tie. The first code that differs is at "
        "bert.encoder.layer.0.output_quantizer, codes that differ in all: 17."
    )


def test_text_that_looks_like_markup_stays_text(page: Element, source: str) -> None:
    assert page.all("script") == []
    # An example, a warning, the processor, the engine's log, a cause of drift; and the recipe.
    assert page.text.count("<script>alert('a')</script> & \"b\" </table>") == 5
    assert page.text.count("<script>alert('a')</script> & \\\"b\\\" </table>") == 1  # as JSON
    for harmful in ("<script", "<nothing>", "<cpu>", "layer.<0>", "<b>"):
        assert harmful not in source
        assert harmful in page.text
    assert all(each.attributes["dir"] == "auto" for each in page.all("q"))


def test_the_page_needs_nothing_from_elsewhere(page: Element, source: str) -> None:
    assert set(re.findall(r"https?://[^\"]+", source)) == {"http://www.w3.org/2000/svg"}
    assert {each.tag for each in page} & {"link", "img", "iframe", "object", "base"} == set()
    assert not re.search(r"\ssrc=|url\(|@import", source)
    assert all(each.attributes["href"].startswith("#") for each in page.all("a"))
    assert not [name for each in page for name in each.attributes if name.startswith("on")]


def test_the_page_is_made_for_phones_and_dark_rooms(page: Element) -> None:
    (viewport,) = page.all("meta", name="viewport")
    assert viewport.attributes["content"] == "width=device-width, initial-scale=1"
    assert "@media (max-width: 640px)" in PARITY_PAGE_STYLE
    assert PARITY_PAGE_STYLE.count("@media (prefers-color-scheme: dark)") == 2
    widths = [each.attributes["width"] for each in page.all("svg")]
    assert widths == [str(WIDE), str(NARROW)] * 2


def test_whoever_listens_to_the_page_finds_the_way(page: Element) -> None:
    assert page.all("html")[0].attributes["lang"] == "en"
    names = [each.attributes["id"] for each in page if "id" in each.attributes]
    assert len(names) == len(set(names))
    for each in page.all("section"):
        (heading,) = each.all("h2")
        assert each.attributes["aria-labelledby"] == heading.attributes["id"]
    linked = [each.attributes["href"].removeprefix("#") for each in page.all("nav")[0].all("a")]
    assert linked == [each.attributes["id"] for each in page.all("section")]
    for each in page.all("svg"):
        assert each.attributes["role"] == "img"
        assert each.all("title")[0].text
        assert "From pytorch to written:" in each.all("desc")[0].text
    levels = [int(each.tag[1]) for each in page if re.fullmatch("h[1-6]", each.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_every_table_has_a_name_headings_and_the_roles_that_cards_would_lose(page: Element) -> None:
    tables = page.all("table")
    assert tables
    for each in tables:
        assert each.attributes["role"] == "table"
        assert each.all("caption")[0].text
        headings = each.all("th", scope="col", role="columnheader")
        for row in each.all("tbody")[0].all("tr", role="row"):
            cells = row.all("td", role="cell")
            assert len(row.all("th", scope="row", role="rowheader")) == 1
            assert [cell.attributes["data-label"] for cell in cells] == [
                heading.text for heading in headings[1:]
            ]
    for each in page.all("div", class_="scrolls"):
        assert (each.attributes["role"], each.attributes["tabindex"]) == ("region", "0")
        assert each.attributes["aria-label"]


def test_no_colour_stands_without_a_sign_and_a_word(page: Element) -> None:
    signs = {"holds": "✓", "fails": "✗", "open": "?"}
    coloured = [
        each for tag in ("span", "text") for style in signs for each in page.all(tag, class_=style)
    ]
    assert len(coloured) > 40
    for each in coloured:
        assert re.fullmatch(rf"{re.escape(signs[each.attributes['class']])} .*\w.*", each.text), (
            each
        )


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance of an sRGB colour."""
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_can_be_read_on_its_ground(theme: str) -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    of_dark = re.compile(r"@media \(prefers-color-scheme: dark\) \{\n(.*?)\n\}\n", re.DOTALL)
    dark, light = "".join(of_dark.findall(PARITY_PAGE_STYLE)), of_dark.sub("", PARITY_PAGE_STYLE)
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", light if theme == "light" else dark))
    assert {"text", "quiet", "holds", "fails", "open"} < set(found)
    for name in ("text", "quiet", "holds", "fails", "open"):
        assert contrast(found[name], found["ground"]) >= 4.5, name  # WCAG 1.4.3, text
    assert contrast(found["first"], found["ground"]) >= 3  # WCAG 1.4.11, the bars
    assert (
        luminance(found["ground"]) > 0.9 if theme == "light" else luminance(found["ground"]) < 0.1
    )


def test_only_declared_colours_are_used() -> None:
    rules = re.sub(r"--\w+: #[0-9a-f]{6};", "", PARITY_PAGE_STYLE)
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb|hsl", rules)
    used = set(re.findall(r"var\(--(\w+)\)", rules))
    assert used <= set(re.findall(r"--(\w+): #", PARITY_PAGE_STYLE))


def test_what_is_proved_of_the_files_and_what_is_not(page: Element) -> None:
    found = {
        row[0]: row[1:]
        for row in rows(section(page, "What is proved of the files").all("table")[0])
    }
    compared = "14 linears, 12 of them compressed and 12 with a sparsity pattern, 20 activation"
    verdict, why = found["weights of model.onnx"]
    assert (verdict, why) == (
        "✓ proved",
        f"{compared} scales and 13 parameters of embeddings and norms were compared with "
        "PyTorch's bit for bit: every one is equal.",
    )
    verdict, why = found["weights of model.<cpu>.onnx"]
    assert verdict == "✗ refuted"
    assert why.endswith(
        "bit for bit: 1 differ. layer.1: code at [5, 1] is -3, not 3, the first of 2"
    )
    assert found["sparsity of model.onnx"][0] == "✓ proved"
    assert found["sparsity of model.<cpu>.onnx"][0] == "? unproven"
    assert found["engine: INT8"][0] == "✗ refuted"
    assert found["engine: INT8"][1].startswith(
        "5 of 6 linears in INT8. 1 of 1 attentions in INT8. layer.5, refuted: <script>"
    )
    assert found["engine: 2:4 kernels"] == ["? unproven", "its plan says nothing."]
    assert found["engine: its answers"] == ["? unproven", "the plan was not run on a GPU."]


def test_what_probes_reach_stands_beside_what_the_dev_set_does(page: Element) -> None:
    part = section(page, "sst2 validation")
    assert rows(table_named(part, "What probes and dev set reach")) == [
        ["positions", "64", "20", "64"],
        ["different words", "90", "30", "96"],
        ["token types", "2", "1", "2"],
    ]
    assert rows(table_named(part, "Probes: made-up inputs")) == [
        ["written", "pytorch", "0", "0", "5 of 5 explained"],
        ["optimized", "pytorch", "0", "0", "5 of 5 explained"],
        ["shifted", "written", "0", "0", "not replayed"],
    ]


def test_a_broken_pattern_is_refuted(facts: dict[str, Any]) -> None:
    changed = document()
    (mismatch,) = changed["splits"][0]["weights"]["model.<cpu>.onnx"]["mismatches"]
    mismatch["what"] = "pattern"
    page = read_html(parity_page(changed, artefact()))
    table = section(page, "What is proved of the files").all("table")[0]
    (row,) = (row for row in rows(table) if row[0] == "sparsity of model.<cpu>.onnx")
    assert row[1] == "✗ refuted"
    assert "layer.1: pattern at [5, 1]" in row[2]


def test_sizes_hashes_versions_recipe_and_commands(page: Element, facts: dict[str, Any]) -> None:
    sizes, storage = section(page, "Sizes").all("table")
    assert rows(sizes) == [
        ["model.onnx", "1.235", "ab" * 32],
        ["model.<cpu>.onnx", "0.008", "cd" * 32],
    ]
    assert rows(storage) == [
        ["2:4+int8", "2", "50.00%", "50.00%"],
        ["dense", "1", "50.00%", "50.00%"],
    ]
    origin = section(page, "Where this comes from")
    commands, recipe = origin.all("pre")
    assert commands.all("code")[0].content == ["\n".join(COMMANDS)]
    assert '"default": "2:4+int8"' in recipe.text
    told = dict(rows(origin.all("table")[0]))
    assert told["exported with torch"] == "2.13.0"
    assert told["compared with onnxruntime"] == "1.32.0"
    assert told["gate terms margin"] == "0.005"
    assert told["gate strict"] == "False"
    assert told["data sst2 validation sha256"] == facts["splits"][0]["dataset"]["sha256"]
    assert told["engine plan sha256"] == "ef" * 32


def test_the_drift_of_every_layer_where_it_was_measured(page: Element) -> None:
    told, table = section(page, "Drift by layer").all("table")
    assert [row[:3] for row in rows(told)] == [
        ["written", "✗ layer.1", "scale"],
        ["optimized", "✓ none", "none"],
    ]
    assert [row[0] for row in rows(table)] == [each["name"] for each in LAYERS]
    assert [row[1] for row in rows(table)] == ["0", "3.25e-08", "0.0375", "no number"]
    bars = [row.all("span", class_="bar") for row in table.all("tbody")[0].all("tr")]
    assert [len(each) for each in bars] == [0, 1, 1, 0]
    lengths = [
        float(each[0].attributes["style"].removeprefix("width: ").removesuffix("px"))
        for each in bars[1:3]
    ]
    assert 0 <= lengths[0] < lengths[1] <= 160


def test_layers_without_any_drift_have_no_bars() -> None:
    table = read_html(drift_chart([{**LAYERS[0]}]))
    assert table.all("span", class_="bar") == []
    assert table.all("caption")[0].text == "Layers in order of execution: 1"


def test_latencies_are_those_that_bench_measured(facts: dict[str, Any]) -> None:
    source = parity_page(facts, artefact(), bench=bench())
    assert HOSTILE not in source
    shown = section(read_html(source), "Latencies")
    table, texts, memory = shown.all("table")
    assert memory.all("caption")[0].text == "Memory"
    assert rows(memory) == [
        ["PyTorch, dense float32", "100.0", "40.0", "120.0", "150.0"],
        ["onnxruntime, model.cpu.onnx", "60.1", "40.0", "120.0", "150.0"],
        ["TensorRT, model.plan", "? not measured", "", "", HOSTILE],
    ]
    assert "above the 90 to 250 MB that it holds with its libraries imported." in shown.text
    assert table.all("caption")[0].text == "Batch 1 x 128 tokens"
    assert texts.all("caption")[0].text == (
        "4 of sst2 validation, 24 tokens on average, by length, at most 64 tokens a batch: "
        "20% padding"
    )
    assert rows(texts) == [["PyTorch, dense float32", "1.1", "1.25", "1.5", "909.1", "", ""]]
    assert rows(table) == [
        ["PyTorch, dense float32", "1.1", "1.25", "1.5", "909.1", "38 %", "1.00×"],
        [
            "onnxruntime, model.cpu.onnx",
            "1.1",
            "1.25",
            "1.5",
            "909.1",
            "38 %",
            "2.50× (2.25 to 3.00)",
        ],
        ["TensorRT, model.plan", "? not run", "", "", "", "", HOSTILE],
    ]
    assert "on a processor, 2 cores, GPU: none; threads: 2." in shown.text
    (picture,) = shown.all("img")
    assert picture.attributes["alt"] == "The speeds of the tables below"
    content = picture.attributes["src"].removeprefix("data:image/svg+xml;base64,")
    assert b64decode(content).decode() == bench_chart(bench())
    assert "limit: linears at 250 billion INT8 operations a second" in shown.text
    assert "Other processes kept 0.5 processors busy: measure again when idle." in shown.text


def test_memory_that_was_not_measured_says_why(facts: dict[str, Any]) -> None:
    found = bench() | {"memory": {"measured": False, "reason": "it was not asked for"}}
    shown = section(read_html(parity_page(facts, artefact(), bench=found)), "Latencies")
    assert shown.text.endswith("? No memory: it was not asked for.")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "nothing was timed; nxmi-export bench does, and parity shows it."),
        ("expected one, found another", "expected one, found another."),
    ],
)
def test_latencies_that_cannot_be_shown_say_why(
    facts: dict[str, Any], found: str | None, reason: str
) -> None:
    shown = section(read_html(parity_page(facts, artefact(), bench=found)), "Latencies")
    assert shown.text.endswith(f"? No latencies: {reason}")
    assert shown.all("table") == []


def test_what_was_not_done_is_absent_or_said() -> None:
    bare = document()
    bare["splits"][0] |= {"drift": {}, "layer_errors": []}
    page = read_html(parity_page(bare, artefact()))
    names = [each.text for each in page.all("h2")]
    assert "Drift by layer" not in names
    assert "It was not built." in section(page, "What is proved of the files").text
    assert "Commands that make it again" not in page.text
    assert [each.text for each in page.all("text", class_="score")].count("not built") == 4


def test_a_run_of_nothing_has_a_page_that_proves_nothing() -> None:
    facts = run_document(
        artefact(), judge_run([], Gate()), checkpoint="model.pt", max_length=64, gate=Gate()
    )
    page = read_html(parity_page(facts, artefact()))
    assert page.all("h1")[0].text == "✗ Parity failed"
    assert "They were not compared." in section(page, "What is proved of the files").text
    assert page.all("svg") == []


def test_logits_that_are_no_numbers_are_not_shown_as_scores() -> None:
    facts = document()
    split = facts["splits"][1]
    split["rungs"]["optimized"]["primary"] = None
    (step,) = (
        each
        for each in split["steps"]
        if (each["reference"], each["candidate"]) == ("compressed", "optimized")
    )
    step["comparison"]["largest_logit_gap"] = None
    page = read_html(parity_page(facts, artefact()))
    assert rows(section(page, "Dev sets").all("table")[0])[1][1] == "1.0000 → no number"
    text = section(page, "rte validation").text
    assert "Predictions cannot be compared from pytorch to optimized." in text
    assert "No prediction changed from pytorch to written." in text


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_ladder_has_a_box_for_every_rung_and_says_what_each_step_changed(width: int) -> None:
    picture = read_html(ladder_chart(document()["splits"][0], engine(), width))
    scores = [each.text for each in picture.all("text", class_="score")]
    assert scores == ["1.0000", "0.9990", "0.9700", "unproven", "0.9990"]
    assert [each.attributes["class"] for each in picture.all("rect")] == [
        *(["present"] * 3),
        "absent",
        "present",
    ]
    words = " ".join(each.text for each in picture.all("text"))
    for label in ("tensorrt_rtx", "1.7.1.116", "✗ 2 changed", "✗ 58 changed", "✓ bits equal"):
        assert label in words
    assert "From written to shifted: bits equal, of 2000." in picture.all("desc")[0].text
    for box in picture.all("rect"):
        right = float(box.attributes["x"]) + float(box.attributes["width"])
        bottom = float(box.attributes["y"]) + float(box.attributes["height"])
        assert right <= width
        assert bottom <= float(picture.all("svg")[0].attributes["height"])


def ladder_of_every_rung(*without: Stage) -> dict[str, Any]:
    """A split whose captured, float16 and INT4 rungs ran too."""
    split = document()["splits"][0]
    packed_from = Stage.WRITTEN if Stage.FLOAT16 in without else Stage.FLOAT16
    for stage, reference, name in (
        (Stage.CAPTURED, Stage.COMPRESSED, "captured graph, unoptimized"),
        (Stage.FLOAT16, Stage.WRITTEN, "model.fp16.onnx, unoptimized"),
        (Stage.INT4, packed_from, "model.int4.onnx, unoptimized"),
    ):
        if stage in without:
            continue
        split["rungs"][stage] = split["rungs"]["written"] | {"name": name}
        [step] = [each for each in split["steps"] if each["candidate"] == "shifted"]
        comparison = step["comparison"] | {"candidate": name, "reference": reference}
        ends = {"reference": reference, "candidate": stage}
        split["steps"].append(step | {**ends, "comparison": comparison})
    for name in ("float16 file", "INT4 file equal bit for bit"):
        split["checks"].append({"name": name, "ok": True, "undecided": None})
    return split


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_an_int4_file_hangs_where_a_float16_file_would_where_there_is_none(width: int) -> None:
    with_both, alone = (
        read_html(ladder_chart(ladder_of_every_rung(*without), engine(), width))
        for without in ((), (Stage.FLOAT16,))
    )
    place = {
        name: [
            (each.attributes["x"], float(each.attributes["y"]) // 100)
            for each in picture.all("text", class_="name")
            if each.text == name
        ]
        for name, picture in (("model.fp16.onnx", with_both), ("model.int4.onnx", alone))
    }
    assert place["model.fp16.onnx"] == place["model.int4.onnx"] != []
    described = alone.all("desc")[0].text
    assert "From written to model.int4.onnx, unoptimized: bits equal, of 2000." in described


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_rung_that_ran_is_drawn_and_touches_no_other(width: int) -> None:
    picture = read_html(ladder_chart(ladder_of_every_rung(), engine(), width))
    names = [each.text for each in picture.all("text", class_="name")]
    assert {"captured graph", "model.fp16.onnx", "model.int4.onnx"} < set(names)
    words = [each.text for each in picture.all("text", class_="holds")]
    assert words.count("✓ 0 changed") == 2
    assert words.count("✓ bits equal") == 2
    described = picture.all("desc")[0].text
    assert "From compressed to captured graph, unoptimized: 0 changed, of 2000." in described
    assert "From written to model.fp16.onnx, unoptimized: 0 changed, of 2000." in described
    boxes = [placed(each) for each in picture.all("rect")]
    assert len(boxes) == 8
    svg = picture.all("svg")[0].attributes
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= float(svg["height"])
        for other in boxes[:index]:
            apart = right < other[0] or other[2] < left or bottom < other[1] or other[3] < top
            assert apart
    assert len(picture.all("path", class_="arrow")) == len(boxes) - 1
    ends = [path_end(each.attributes["d"]) for each in picture.all("path", class_="tip")]
    # Each arrow ends at an edge of a box of its own.
    for left, top, right, bottom in boxes[1:]:
        at_edge = [
            (x == left and top < y < bottom) or (y == top and left < x < right) for x, y in ends
        ]
        assert at_edge.count(True) == 1


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize(
    ("without", "beside"),
    [
        ((Stage.CAPTURED, Stage.FLOAT16, Stage.INT4), "TensorRT engine"),
        ((Stage.INT4,), "TensorRT engine"),
        ((Stage.CAPTURED,), "pytorch"),
    ],
)
def test_openvino_hangs_where_there_is_room(
    without: tuple[Stage, ...], beside: str, width: int
) -> None:
    split = with_openvino(ladder_of_every_rung(*without))
    picture = read_html(ladder_chart(split, engine(), width))
    names = {each.text: each for each in picture.all("text", class_="name")}
    along = "x" if width == WIDE else "y"
    assert names["OpenVINO"].attributes[along] == names[beside].attributes[along]
    assert "✓ 0 changed" in [each.text for each in picture.all("text", class_="holds")]
    described = picture.all("desc")[0].text
    assert "OpenVINO, float32 products: 0.9990." in described
    assert "From compressed to OpenVINO, float32 products: 0 changed, of 2000." in described
    boxes = [placed(each) for each in picture.all("rect")]
    assert len(boxes) == len(set(boxes))
    for index, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:index]:
            apart = right < other[0] or other[2] < left or bottom < other[1] or other[3] < top
            assert apart


def with_openvino(split: dict[str, Any]) -> dict[str, Any]:
    """The split, over which OpenVINO ran too and changed nothing."""
    name = "OpenVINO, float32 products"
    split["rungs"]["openvino"] = split["rungs"]["written"] | {"name": name}
    [step] = [each for each in split["steps"] if each["candidate"] == "shifted"]
    comparison = step["comparison"] | {"candidate": name, "reference": "compressed"}
    ends = {"reference": "compressed", "candidate": "openvino"}
    split["steps"].append(step | {**ends, "comparison": comparison})
    split["checks"].append({"name": "OpenVINO", "ok": True, "undecided": None})
    return split


def placed(rect: Element) -> tuple[float, float, float, float]:
    x, y, width, height = (float(rect.attributes[n]) for n in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def path_end(commands: str) -> tuple[float, float]:
    """Where the tip of an arrow is: its first point."""
    x, y = commands.split(" ")[0].removeprefix("M").split(",")
    return float(x), float(y)


def test_a_rung_that_was_not_run_is_drawn_dashed_and_named() -> None:
    split = document()["splits"][0]
    del split["rungs"]["shifted"]
    split["steps"] = [each for each in split["steps"] if each["candidate"] != "shifted"]
    picture = read_html(ladder_chart(split, None))
    assert [each.attributes["class"] for each in picture.all("rect")].count("absent") == 2
    assert "shifted: not run." in picture.all("desc")[0].text
