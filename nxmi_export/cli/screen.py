"""What every live screen has: a stage and its time, bars of work, lines where no terminal is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nxmi_export.cli.console import ERRORS

__all__ = ["ABSENT", "Screen", "live_screen"]

ABSENT = "–"


def _say(line: str) -> None:
    ERRORS.print(line, soft_wrap=True, highlight=False, markup=False)


def _say_nothing(line: str) -> None:
    pass


class Screen:
    """The stage that runs and the bars of counted work; `say` gets what deserves a line."""

    def __init__(self, metric: str, say: Callable[[str], None] | None = None) -> None:
        """`metric` names in words what a run is measured by."""
        self._metric, self._say = metric, say or _say_nothing
        self._stages = Progress(*_named(), TimeElapsedColumn())
        self._bars = Progress(
            *_named(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._stage: TaskID | None = None

    def begin(self, stage: str) -> None:
        """A stage that takes seconds begins; the one before has ended."""
        self.end()
        self._stage = self._stages.add_task(stage, total=None)

    def end(self) -> None:
        """The stage that is shown, if any, has ended."""
        if self._stage is not None:
            self._stages.remove_task(self._stage)
            self._stage = None

    def render(self) -> Group:
        """The screen as it is now."""
        return Group(self._stages, self._bars)


AnyScreen = TypeVar("AnyScreen", bound=Screen)


@contextmanager
def live_screen(kind: type[AnyScreen], *, shown: bool, metric: str) -> Iterator[AnyScreen]:
    """A screen, live on standard error; where that is no terminal, it says lines.

    Without `shown` it is silent.
    """
    if not (shown and ERRORS.is_terminal):
        yield kind(metric, _say if shown else _say_nothing)
        return
    screen = kind(metric)
    with Live(get_renderable=screen.render, console=ERRORS, refresh_per_second=4):
        yield screen
        screen.end()


def _named() -> tuple[ProgressColumn, ...]:
    return SpinnerColumn(), TextColumn("{task.description}", markup=False)
