"""What a terminal shows while a search goes on."""

import io

import pytest
from rich.console import Console

from nxmi_export.cli import screen
from nxmi_export.cli.search_display import QUIET, SearchDisplay, live_display
from nxmi_export.search.progress import (
    CandidateScored,
    Leader,
    LinearPrepared,
    SensitivityDone,
    SolutionFound,
    StageBegun,
)


def shown(display: SearchDisplay) -> list[str]:
    console = Console(width=120, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(display.render())
    return [line.rstrip() for line in capture.get().splitlines()]


def leader(text: str, divergence: float, seconds: float | None = None) -> Leader:
    schemes = {"query": text, "key": text}
    source = None if seconds is None else "analytical"
    return Leader(f"{text}/{text}", schemes, 0.125, seconds, source, divergence, 0.8)


def scored(number: int, *leaders: Leader, reused: int = 0, total: int = 100) -> CandidateScored:
    return CandidateScored(
        origin="component",
        number=number,
        total=total,
        reused=reused,
        stopped=number // 2,
        examples=number * 30,
        slice=60,
        leaders=leaders,
    )


@pytest.fixture
def display() -> SearchDisplay:
    return SearchDisplay("mean of accuracy and f1")


def test_a_stage_lasts_until_something_else_begins(display: SearchDisplay) -> None:
    display.begin("loading [red] PyTorch")
    assert "loading [red] PyTorch" in shown(display)[0]
    display.hear(StageBegun("calibrating"))
    (line,) = shown(display)
    assert "calibrating" in line
    display.hear(LinearPrepared(1, 36, "query"))
    assert "calibrating" not in "\n".join(shown(display))


def test_every_kind_of_work_has_a_bar(display: SearchDisplay) -> None:
    display.hear(LinearPrepared(36, 36, "query"))
    display.hear(SensitivityDone("component", 3, 30, reused=0))
    display.hear(SensitivityDone("layer", 7, 180, reused=0))
    display.hear(SolutionFound("proposals", 2, 20))
    display.hear(SolutionFound("frontier", 5, 16))
    bars = shown(display)
    for line, name, count in zip(
        bars,
        (
            "rounding and pruning",
            "one at a time, per component",
            "one at a time, per layer",
            "solving for candidates",
            "solving for the frontier",
        ),
        ("36/36", "3/30", "7/180", "2/20", "5/16"),
        strict=True,
    ):
        assert name in line
        assert count in line


def test_the_best_so_far_stand_in_a_table(display: SearchDisplay) -> None:
    display.hear(scored(50, leader("int4", 0.01), leader("2:4+int8", 0.0234)))
    bar, effort, heading, *rows = shown(display)
    assert "scoring, per component" in bar
    assert "50/100" in bar
    assert effort == "50 of 100 scored, 25 given up early, 50.0% of their examples needed"
    assert " ".join(heading.split()) == "best so far size divergence mean of accuracy and f1"
    assert [" ".join(row.split()) for row in rows] == [
        "int4 everywhere 12.50% 0.01000 0.8000",
        "2:4+int8 everywhere 12.50% 0.02340 0.8000",
    ]


def test_latencies_have_a_column_that_says_whence_they_are(display: SearchDisplay) -> None:
    display.hear(scored(50, leader("int4", 0.01, seconds=0.0123)))
    *_, heading, row = shown(display)
    assert heading.endswith("latency, analytical")
    assert row.endswith("12.3 ms")


def test_what_an_interrupted_search_had_done_does_not_pretend_to_be_fast(
    display: SearchDisplay,
) -> None:
    for number in range(1, 61):
        display.hear(scored(number, reused=number))
    display.hear(scored(61, reused=60))
    bar = shown(display)[0]
    assert "61/100" in bar
    assert "left 0:00:00" not in bar


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_no_terminal_gets_a_line_for_every_new_best(
    monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    lines = io.StringIO()
    monkeypatch.setattr(screen, "ERRORS", Console(file=lines, width=40))
    with live_display(shown=wanted, metric="accuracy") as display:
        display.begin("loading PyTorch")
        display.hear(scored(1, total=3))
        display.hear(scored(2, leader("int4", 0.5), total=3))
        display.hear(scored(3, leader("int8", 0.25, seconds=0.002), leader("int4", 0.5), total=3))
    assert lines.getvalue().splitlines() == (
        [
            "best so far, per component: int4 everywhere "
            "(size 12.50%, divergence 0.50000, metric 0.8000)",
            "best so far, per component: int8 everywhere "
            "(size 12.50%, divergence 0.25000, metric 0.8000, latency 2 ms, analytical)",
            "per component: 3 of 3 scored, 1 given up early, 50.0% of their examples needed",
        ]
        if wanted
        else []
    )


@pytest.mark.parametrize(("terminal", "wanted"), [(True, True), (True, False), (False, True)])
def test_it_is_drawn_on_a_terminal_by_the_process_that_speaks(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, wanted: bool
) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=terminal, width=100, color_system=None)
    monkeypatch.setattr(screen, "ERRORS", console)
    with live_display(shown=wanted, metric="accuracy") as display:
        display.hear(scored(1))
    assert ("1/100" in drawn.getvalue()) is (terminal and wanted)


def test_without_a_terminal_it_says_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, said = 0.0, list[str]()
    monkeypatch.setattr("nxmi_export.cli.search_display.time.monotonic", lambda: now)
    display = SearchDisplay("accuracy", said.append)
    for number in range(1, 101):
        display.hear(SensitivityDone("layer", number, 100, reused=0))
        now += QUIET / 20
    counts = [line.split(": ")[1].split(",")[0] for line in said]
    assert counts == ["21 of 100", "41 of 100", "61 of 100", "81 of 100"]
    assert all(line.startswith("one at a time, per layer: ") for line in said)
    assert said[-1].endswith(" left")
