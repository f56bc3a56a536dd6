"""The terminal: nothing in other people's texts commands it, and all of it can be seen."""

import io

import pytest
from rich.console import RenderableType
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from nxmi_export.cli.console import ERRORS, RESULTS, say_error
from nxmi_export.cli.visible_console import VisibleConsole, visible
from nxmi_export.errors import NxmiError, UsageError

HOSTILE = "a\x1b[2Jb\x1b]0;owned\x07c\x9b2Jd\x7f"
SHOWN = "a␛[2Jb␛]0;owned␇c\\x9b2Jd␡"
STRIPPED = "a[2Jb]0;ownedc2Jd"


def _printed(what: RenderableType, **settings: object) -> str:
    file = io.StringIO()
    VisibleConsole(file=file, width=60, **settings).print(what)
    return file.getvalue()


def _table(cell: RenderableType, title: str | None = None) -> Table:
    table = Table("text", "next", title=title)
    table.add_row(cell, "to it")
    return table


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        (HOSTILE, SHOWN),
        (_table(HOSTILE), SHOWN),
        (_table("x" * 30, title=HOSTILE), SHOWN),
        (Text(HOSTILE), STRIPPED),
        (_table(Text(HOSTILE)), STRIPPED),
    ],
    ids=["a line", "a cell", "a title", "a text", "a text in a cell"],
)
def test_control_characters_are_shown_or_gone_and_not_obeyed(
    what: RenderableType, shown: str
) -> None:
    printed = _printed(what, color_system=None)
    assert not set(printed) & {*map(chr, (*range(10), *range(11, 32), *range(127, 160)))}
    assert shown in printed


@pytest.mark.parametrize("cell", [HOSTILE, Text(HOSTILE), "\udcff", Text("\udcff")])
def test_a_table_stays_in_line(cell: RenderableType) -> None:
    lines = _printed(_table(cell), color_system=None).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_rich_still_colours_and_moves_its_bars() -> None:
    coloured = _printed("[red]x[/]", force_terminal=True, color_system="standard")
    assert "\x1b[31mx\x1b[0m" in coloured
    drawn = io.StringIO()
    console = VisibleConsole(file=drawn, force_terminal=True, color_system=None)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as progress:
        progress.add_task("\x1b[2Jlayer")
        progress.refresh()
    assert "[2Jlayer" in drawn.getvalue()
    assert "\x1b[2Jlayer" not in drawn.getvalue()
    assert "\x1b[2K" in drawn.getvalue()  # how rich redraws


def test_what_turns_the_reading_direction_and_what_no_encoding_holds_is_escaped() -> None:
    assert visible("\u202emoc\u2066 \udcff") == "\\u202emoc\\u2066 \\udcff"
    assert _printed("\udcff") == "\\udcff\n"
    assert _printed(Text("\udcff")) == "\ufffd\n"


def test_other_texts_are_as_they_are() -> None:
    text = "naïve – 你好 👍 שלום\t:smile:\nnext"
    assert visible(text) == text
    assert ":smile:" in _printed(text)


def test_the_command_line_prints_through_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(RESULTS, VisibleConsole)
    assert isinstance(ERRORS, VisibleConsole)
    error: NxmiError = UsageError(HOSTILE, expected="one", found="none", remedy="do")
    say_error(error)
    assert capsys.readouterr().err == f"error: {SHOWN}: expected one, found none; do\n"
