import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from nxmi_export.report.line_chart import LEFT, PLOT_WIDTH, Line, Panel, panel_elements
from nxmi_export.report.training_plot import LOSS_POINTS, training_plot

SVG = "{http://www.w3.org/2000/svg}"
STEPS = 10


def log(epochs: int = 4, *, residuals: bool = True) -> list[dict[str, Any]]:
    """Every value of an epoch is a different, simple number."""
    entries: list[dict[str, Any]] = []
    for step in range(1, STEPS * epochs + 1):
        entries.append({"event": "step", "step": step, "loss": 1 / step})
        if step % STEPS == 0:
            epoch = step // STEPS
            found = {"primal": 10.0**-epoch, "dual": 0.0, "churn": 0.5**epoch, "rho": 1e-3}
            entries.append(
                {
                    "event": "epoch",
                    "step": step,
                    "metrics": {"accuracy": 0.8, "f1": 0.6},
                    "projected": {"accuracy": 0.5 + epoch / 50, "f1": 0.5 + epoch / 50},
                    "residuals": found if residuals else None,
                }
            )
    return entries


def drawn(entries: Sequence[dict[str, Any]], dense: float | None = 0.9) -> ElementTree.Element:
    title = "mrpc, <deploy> & more"
    return ElementTree.fromstring(
        training_plot(entries, title=title, metric="mean of accuracy and f1", dense=dense)
    )


def texts(root: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def curves(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """The points of every curve, without the samples of the legend."""
    lines = ([pair.split(",") for pair in each.attrib["points"].split()] for each in _lines(root))
    points = [[(float(x), float(y)) for x, y in line] for line in lines]
    return [line for line in points if line[0][0] <= LEFT + PLOT_WIDTH]


def _lines(root: ElementTree.Element) -> list[ElementTree.Element]:
    return list(root.iter(f"{SVG}polyline"))


def test_the_panels_and_their_lines_are_named() -> None:
    found = texts(drawn(log()))
    for name in (
        "mrpc, <deploy> & more",
        "mean of accuracy and f1",
        "as trained",
        "if projected",
        "dense model",
        "ADMM residuals",
        "primal ‖W − Z‖ / ‖W‖",
        "mask churn",
        "training loss, weighted sum of its terms",
        "loss",
    ):
        assert found.count(name) == 1, name


def test_both_themes_colour_everything_that_is_drawn() -> None:
    text = training_plot(log(), title="", metric="", dense=0.9)
    light, dark = re.findall(r"svg \{ (background[^}]*)\}", text)
    names = [set(re.findall(r"(--[a-z]+):", theme)) for theme in (light, dark)]
    assert names[0] == names[1] == set(re.findall(r"var\((--[a-z]+)\)", text))
    assert "@media (prefers-color-scheme: dark)" in text
    assert light != dark


def test_it_needs_nothing_from_elsewhere() -> None:
    text = training_plot(log(), title="", metric="", dense=0.9)
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|url\(|<script|<image|@import", text)


def test_everything_lies_inside_of_the_page() -> None:
    root = drawn(log())
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for line in curves(root):
        assert all(LEFT <= x <= LEFT + PLOT_WIDTH and 0 < y < height for x, y in line)
    for each in root.iter(f"{SVG}text"):
        # 7 pixels a letter is more than these fonts take
        begins = float(each.attrib["x"])
        if each.attrib.get("text-anchor") == "start":
            assert begins + 7 * len(each.text or "") <= width + 7
        assert 0 < float(each.attrib["y"]) < height


def test_points_stand_at_their_steps_and_in_their_order() -> None:
    trained, projected, dense, *_ = curves(drawn(log()))
    places = [LEFT + PLOT_WIDTH * share for share in (0.25, 0.5, 0.75, 1.0)]
    assert [x for x, _ in trained] == [x for x, _ in projected] == places
    assert len({y for _, y in trained}) == 1
    heights = [y for _, y in projected]
    assert heights == sorted(heights, reverse=True)  # SVG counts from the top
    assert [x for x, _ in dense] == [LEFT, LEFT + PLOT_WIDTH]
    assert dense[0][1] < trained[0][1] < heights[-1]


def test_residuals_fall_on_a_logarithmic_axis() -> None:
    root = drawn(log())
    primal = curves(root)[3]
    drops = [later - earlier for (_, earlier), (_, later) in pairwise(primal)]
    assert drops == pytest.approx([drops[0]] * 3, abs=0.2)  # a tenth each time
    assert {"0.1", "0.01", "0.001", "0.0001"} <= set(texts(root))


def test_a_residual_of_zero_has_no_place_and_no_name() -> None:
    assert "dual ρ‖ΔZ‖ / ‖W‖" not in texts(drawn(log()))


def test_without_residuals_there_is_no_panel_of_them() -> None:
    with_them, without = drawn(log()), drawn(log(residuals=False))
    assert "ADMM residuals" not in texts(without)
    assert float(without.attrib["height"]) < float(with_them.attrib["height"])


def test_without_a_dense_metric_there_is_no_line_of_it() -> None:
    assert "dense model" not in texts(drawn(log(), dense=None))


def test_a_metric_that_is_no_number_leaves_a_gap() -> None:
    entries = log()
    undefined = next(entry for entry in entries if entry["event"] == "epoch")
    undefined["metrics"] = {"pearson": None, "spearman": 0.5}
    assert len(curves(drawn(entries))[0]) == 3


def test_a_log_without_any_metric_still_shows_the_loss() -> None:
    entries = [entry for entry in log() if entry["event"] == "step"]
    found = texts(drawn(entries, dense=None))
    assert "loss" in found
    assert "as trained" not in found


def test_a_long_run_is_drawn_by_means() -> None:
    entries = [{"event": "step", "step": n, "loss": float(n % 2)} for n in range(1, 2001)]
    root = drawn(entries, dense=None)
    (loss,) = curves(root)
    assert len(loss) == LOSS_POINTS
    assert len({y for _, y in loss}) == 1  # the mean of 0 and 1, each time
    assert "loss, mean of 10" in texts(root)


@pytest.mark.parametrize("dense", [0.9, None])
def test_one_step_alone_can_be_drawn(dense: float | None) -> None:
    ((point,),) = curves(drawn([{"event": "step", "step": 1, "loss": 0.0}], dense))
    assert point[0] == LEFT + PLOT_WIDTH


def labels(values: Sequence[float], **options: bool) -> list[str]:
    """The labels of the vertical axis, from the top."""
    line = Line("", "first", list(enumerate(values)))
    panel = Panel(
        "",
        [line],
        height=100,
        logarithmic=options.get("logarithmic", False),
        with_zero=options.get("with_zero", False),
    )
    elements = panel_elements(panel, 0, len(values), "step")
    found = [re.search(r'anchor="end".*>(.+)</text>', each) for each in elements]
    return [each[1] for each in found if each]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.845, 0.865], ["0.845", "0.850", "0.855", "0.860", "0.865"]),
        ([-0.1, 0.35], ["-0.1", "0.0", "0.1", "0.2", "0.3", "0.4"]),
        ([0.5, 0.5], ["0.44", "0.46", "0.48", "0.50", "0.52", "0.54", "0.56"]),
        ([0.0, 0.0], ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_ticks_are_round_and_span_the_values(values: list[float], expected: list[str]) -> None:
    assert labels(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1e-4], ["0.0001", "0.001", "0.01", "0.1", "1"]),
        ([0.3, 0.06], ["0.05", "0.1", "0.2", "0.5"]),
        ([0.1], ["0.1", "0.2"]),
    ],
)
def test_logarithmic_ticks_are_round_and_span_the_values(
    values: list[float], expected: list[str]
) -> None:
    assert labels(values, logarithmic=True) == expected


def test_an_axis_with_zero_begins_there() -> None:
    assert labels([3.0, 4.0], with_zero=True)[0] == "0"
    assert math.isclose(float(labels([3.0, 4.0])[0]), 3.0)
