"""What the command line says: results on standard output, everything else on standard error."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nxmi_export.cli.visible_console import VisibleConsole
from nxmi_export.errors import NxmiError
from nxmi_export.output_files import atomic_file

__all__ = [
    "ERRORS",
    "RESULTS",
    "bars",
    "say_error",
    "say_internal_error",
    "say_interrupted",
    "stages",
    "write_json",
    "write_text",
]

RESULTS = VisibleConsole()
ERRORS = VisibleConsole(stderr=True)


def say_error(error: NxmiError) -> None:
    """The error's one sentence; no trace, it is meant for the user."""
    ERRORS.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)


def say_interrupted() -> None:
    """After Ctrl-C."""
    ERRORS.print("[bold]interrupted:[/] nothing was left half-written", highlight=False)


def say_internal_error() -> None:
    """An error nobody planned: the trace, for a bug report."""
    ERRORS.print_exception(show_locals=False)
    ERRORS.print("[bold red]internal error:[/] please report it with the trace above")


def write_json(path: Path, content: dict[str, Any] | list[Any]) -> None:
    """Write machine-readable output, whole or not at all."""
    write_text(path, f"{json.dumps(content, indent=1, allow_nan=False)}\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all; what UTF-8 cannot hold is written as an escape.

    That is a half character: a path that is not UTF-8 has them, and should end no run.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def stages() -> Iterator[Any]:
    """Yields a function that announces the next stage; a spinner and the time while it lasts.

    Silent where standard error is no terminal.
    """
    columns = (SpinnerColumn(), _description(), TimeElapsedColumn())
    with Progress(*columns, console=ERRORS, disable=not ERRORS.is_terminal) as progress:
        running: list[Any] = []

        def begin(stage: str) -> None:
            _finish(progress, running)
            running.append(progress.add_task(stage, total=1))

        yield begin
        _finish(progress, running)


def _finish(progress: Progress, running: list[Any]) -> None:
    for task in running:
        progress.update(task, completed=1)


@contextmanager
def bars() -> Iterator[Any]:
    """Yields a function (what, done, total) that moves the bar of each `what`.

    Silent where standard error is no terminal.
    """
    columns = (
        SpinnerColumn(),
        _description(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=ERRORS, disable=not ERRORS.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def move(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield move


def _description() -> TextColumn:
    # A task, a layer or a file may be named "[red]", which is no markup.
    return TextColumn("{task.description}", markup=False)
