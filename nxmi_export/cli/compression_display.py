"""The reports of a compression run in, a live screen or a line an epoch on standard error out."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nxmi_export.cli.screen import ABSENT, Screen, live_screen

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    # Its package loads torch, and --help should not.
    from nxmi_export.compression import progress as reports

__all__ = ["CompressionDisplay", "live_display"]

SHOWN_EPOCHS = 12  # the last ones; the log has them all


def live_display(*, shown: bool, metric: str) -> AbstractContextManager["CompressionDisplay"]:
    """A display that `hear`s a run; where standard error is no terminal, it says a line an epoch.

    `metric` names in words what a run reports after each epoch. Without `shown` it is silent.
    """
    return live_screen(CompressionDisplay, shown=shown, metric=metric)


class CompressionDisplay(Screen):
    """What the screen shows: the stage and its time, the loss by its terms, one row an epoch.

    `say` gets every epoch as a line of its own.
    """

    def __init__(self, metric: str, say: Callable[[str], None] | None = None) -> None:
        super().__init__(metric, say)
        self._training: TaskID | None = None
        self._step: reports.StepDone | None = None
        self._losses: list[float] = []  # of this epoch's steps
        self._epochs: list[tuple[str, ...]] = []

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
            parts.append(self._bars)
        if self._step is not None:
            parts.append(_loss_line(self._step))
        if self._epochs:
            parts.append(self._epoch_table())
        return Group(*parts)

    def _hear_step(self, step: "reports.StepDone") -> None:
        if self._training is None:
            # A resumed run does not begin at 0: its first steps would give a wild estimate.
            self._training = self._bars.add_task("", total=step.total, completed=step.number - 1)
        self._bars.update(self._training, description=f"epoch {step.epoch}", completed=step.number)
        self._step = step
        self._losses.append(step.loss)

    def _hear_epoch(self, epoch: "reports.EpochDone") -> None:
        residuals = epoch.residuals
        self._say(_epoch_line(epoch, self._losses))
        self._epochs.append(
            (
                f"{epoch.epoch}/{epoch.epochs}" if epoch.epoch else "dense",
                f"{statistics.fmean(self._losses):.4f}" if self._losses else ABSENT,
                _mean(epoch.metrics),
                _mean(epoch.projected),
                *(
                    (f"{residuals.primal:.3g}", f"{residuals.dual:.3g}", f"{residuals.churn:.2%}")
                    if residuals is not None
                    else (ABSENT,) * 3
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
    return f"{statistics.fmean(metrics.values()):.4f}" if metrics else ABSENT
