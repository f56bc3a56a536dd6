"""What a terminal shows while a run goes on."""

import io

import pytest
from rich.console import Console

from nxmi_export.cli import screen
from nxmi_export.cli.compression_display import CompressionDisplay, live_display
from nxmi_export.compression.progress import EpochDone, Residuals, StageBegun, StepDone


def shown(display: CompressionDisplay) -> list[str]:
    console = Console(width=120, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(display.render())
    return [line.rstrip() for line in capture.get().splitlines()]


def step(number: int, *, loss: float = 0.75, epoch: int = 1) -> StepDone:
    return StepDone(number, 100, epoch, loss, {"labels": 0.5, "logits": 0.25}, 5e-5)


@pytest.fixture
def display() -> CompressionDisplay:
    return CompressionDisplay("mean of accuracy and f1")


def test_a_stage_lasts_until_something_else_begins(display: CompressionDisplay) -> None:
    display.begin("loading [red] PyTorch")
    assert "loading [red] PyTorch" in shown(display)[0]
    display.hear(StageBegun("calibrating"))
    (line,) = shown(display)
    assert "calibrating" in line
    display.hear(step(1))
    assert "calibrating" not in "\n".join(shown(display))


def test_a_step_shows_its_loss_by_terms(display: CompressionDisplay) -> None:
    display.hear(step(7, epoch=2))
    bar, loss = shown(display)
    assert "epoch 2" in bar
    assert "7/100" in bar
    assert loss == "loss 0.7500   (labels 0.5000 · logits 0.2500)   learning rate 5.00e-05"


def test_an_epoch_gets_a_row_with_its_mean_loss_and_residuals(display: CompressionDisplay) -> None:
    display.hear(EpochDone(0, 2, 0, {"accuracy": 0.9, "f1": 0.8}, {}, None))
    display.hear(step(1, loss=1.0))
    display.hear(step(2, loss=2.0))
    residuals = Residuals(primal=0.25, dual=0.001, churn=0.125, rho=4e-3)
    metrics, projected = {"accuracy": 0.8, "f1": 0.7}, {"accuracy": 0.6, "f1": 0.5}
    display.hear(EpochDone(1, 2, 2, metrics, projected, residuals))
    display.hear(step(3, loss=4.0))
    display.hear(EpochDone(2, 2, 3, metrics, metrics, None))
    heading, *rows = (line.split() for line in shown(display)[-4:])
    assert " ".join(heading) == (
        "epoch loss mean of accuracy and f1 if projected primal dual mask churn"
    )
    assert rows == [
        ["dense", "–", "0.8500", "–", "–", "–", "–"],
        ["1/2", "1.5000", "0.7500", "0.5500", "0.25", "0.001", "12.50%"],
        ["2/2", "4.0000", "0.7500", "0.7500", "–", "–", "–"],
    ]


def test_a_resumed_run_does_not_pretend_to_have_been_fast(display: CompressionDisplay) -> None:
    display.hear(step(61))
    display.hear(step(62))
    bar = shown(display)[0]
    assert "62/100" in bar
    assert "left 0:00:00" not in bar


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_no_terminal_gets_a_line_an_epoch(
    monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    lines = io.StringIO()
    monkeypatch.setattr(screen, "ERRORS", Console(file=lines, width=40))
    residuals = Residuals(primal=0.25, dual=0.001, churn=0.125, rho=4e-3)
    metrics, projected = {"[b]": 0.8, "f1": 0.7}, {"[b]": 0.6, "f1": 0.5}
    with live_display(shown=wanted, metric="accuracy") as display:
        display.begin("loading PyTorch")
        display.hear(EpochDone(0, 2, 0, {"[b]": 0.9, "f1": 0.8}, {}, None))
        display.hear(step(1, loss=1.0))
        display.hear(step(2, loss=2.0))
        display.hear(EpochDone(1, 2, 2, metrics, projected, residuals))
        display.hear(EpochDone(2, 2, 2, metrics, metrics, None))
    assert lines.getvalue().splitlines() == (
        [
            "dense model: [b] 0.9000, f1 0.8000",
            "epoch 1/2: loss 1.5000, [b] 0.8000, f1 0.7000, [b] 0.6000 if projected, "
            "f1 0.5000 if projected, mask churn 12.50%",
            "epoch 2/2: [b] 0.8000, f1 0.7000",
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
        display.hear(step(1))
    assert ("1/100" in drawn.getvalue()) is (terminal and wanted)
