"""The reports of a compression run in, a live screen on standard error out."""

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from nxmi_export.cli.console import ERRORS

if TYPE_CHECKING:
    # Its package loads torch, and --help should not.
    from nxmi_export.compression import progress as reports

__all__ = ["CompressionDisplay", "live_display"]

SHOWN_EPOCHS = 12  # the last ones; the log has them all
_ABSENT = "–"


@contextmanager
def live_display(*, shown: bool, metric: str) -> Iterator["CompressionDisplay"]:
    """A display that `hear`s a run; nothing is drawn where standard error is no terminal.

    `metric` names in words what a run reports after each epoch.
    """
    display = CompressionDisplay(metric)
    if not (shown and ERRORS.is_terminal):
        yield display
        return
    with Live(get_renderable=display.render, console=ERRORS, refresh_per_second=4):
        yield display
        display.end()


class CompressionDisplay:
    """What the screen shows: the stage and its time, the loss by its terms, one row an epoch."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._stages = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        )
        self._steps = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._stage: TaskID | None = None
        self._training: TaskID | None = None
        self._step: reports.StepDone | None = None
        self._losses: list[float] = []  # of this epoch's steps
        self._epochs: list[tuple[str, ...]] = []

    def begin(self, stage: str) -> None:
        """A stage that takes seconds begins; the one before has ended."""
        self.end()
        self._stage = self._stages.add_task(stage, total=None)

    def end(self) -> None:
        """The stage that is shown, if any, has ended."""
        if self._stage is not None:
            self._stages.remove_task(self._stage)
            self._stage = None

    def hear(self, report: "reports.Progress") -> None:
        """Take in one report."""
        from nxmi_export.compression.progress import StageBegun, StepDone

        if isinstance(report, StageBegun):
            self.begin(report.stage)
            return
        self.end()
        if isinstance(report, StepDone):
            self._hear_step(report)
        else:
            self._hear_epoch(report)

    def render(self) -> Group:
        """The screen as it is now."""
        parts: list[Progress | Table | Text] = [self._stages]
        if self._training is not None:
            parts.append(self._steps)
        if self._step is not None:
            parts.append(_loss_line(self._step))
        if self._epochs:
            parts.append(self._epoch_table())
        return Group(*parts)

    def _hear_step(self, step: "reports.StepDone") -> None:
        if self._training is None:
            # A resumed run does not begin at 0: its first steps would give a wild estimate.
            self._training = self._steps.add_task("", total=step.total, completed=step.number - 1)
        self._steps.update(self._training, description=f"epoch {step.epoch}", completed=step.number)
        self._step = step
        self._losses.append(step.loss)

    def _hear_epoch(self, epoch: "reports.EpochDone") -> None:
        residuals = epoch.residuals
        self._epochs.append(
            (
                f"{epoch.epoch}/{epoch.epochs}" if epoch.epoch else "dense",
                f"{statistics.fmean(self._losses):.4f}" if self._losses else _ABSENT,
                _mean(epoch.metrics),
                _mean(epoch.projected),
                *(
                    (f"{residuals.primal:.3g}", f"{residuals.dual:.3g}", f"{residuals.churn:.2%}")
                    if residuals is not None
                    else (_ABSENT,) * 3
                ),
            )
        )
        self._losses = []

    def _epoch_table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        headings = ("epoch", "loss", escape(self._metric), "if projected", "primal", "dual")
        for heading in (*headings, "mask churn"):
            table.add_column(heading, justify="right")
        for row in self._epochs[-SHOWN_EPOCHS:]:
            table.add_row(*row)
        return table


def _loss_line(step: "reports.StepDone") -> Text:
    terms = " · ".join(f"{name} {value:.4f}" for name, value in step.losses.items())
    return Text(
        f"loss {step.loss:.4f}   ({terms})   learning rate {step.learning_rate:.2e}",
        no_wrap=True,
        overflow="ellipsis",
    )


def _mean(metrics: Mapping[str, float]) -> str:
    return f"{statistics.fmean(metrics.values()):.4f}" if metrics else _ABSENT
