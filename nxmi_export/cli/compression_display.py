"""The reports of a compression run in, a live screen or a line an epoch on standard error out."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """A display that `hear`s a run; where standard error is no terminal, it says a line an epoch.

    `metric` names in words what a run reports after each epoch. Without `shown` it is silent.
    """
    if not (shown and ERRORS.is_terminal):
        yield CompressionDisplay(metric, _say if shown else _say_nothing)
        return
    display = CompressionDisplay(metric)
    with Live(get_renderable=display.render, console=ERRORS, refresh_per_second=4):
        yield display
        display.end()


def _say(line: str) -> None:
    ERRORS.print(line, soft_wrap=True, highlight=False, markup=False)


def _say_nothing(line: str) -> None:
    pass


class CompressionDisplay:
    """What the screen shows: the stage and its time, the loss by its terms, one row an epoch.

    `say` gets every epoch as a line of its own.
    """

    def __init__(self, metric: str, say: Callable[[str], None] = _say_nothing) -> None:
        self._metric = metric
        self._say = say
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
        self._say(_epoch_line(epoch, self._losses))
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


def _epoch_line(epoch: "reports.EpochDone", losses: Sequence[float]) -> str:
    """An epoch and its numbers, as a log has them: "epoch 2/10: loss 0.4000, accuracy 0.9000"."""
    numbers = [f"loss {statistics.fmean(losses):.4f}"] if losses else []
    numbers += _told(epoch.metrics)
    if epoch.projected != epoch.metrics:  # of the dense model there is no projection
        numbers += [f"{each} if projected" for each in _told(epoch.projected)]
    if epoch.residuals is not None:
        numbers.append(f"mask churn {epoch.residuals.churn:.2%}")
    name = f"epoch {epoch.epoch}/{epoch.epochs}" if epoch.epoch else "dense model"
    return f"{name}: {', '.join(numbers)}"


def _told(metrics: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.4f}" for name, value in metrics.items()]


def _mean(metrics: Mapping[str, float]) -> str:
    return f"{statistics.fmean(metrics.values()):.4f}" if metrics else _ABSENT
