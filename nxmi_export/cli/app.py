"""The verbs of `nxmi-export` and how a command line finds its verb."""

import difflib
import sys
from pathlib import Path
from typing import Annotated

import typer

from nxmi_export._version import __version__
from nxmi_export.cli import (
    bench,
    build,
    certify,
    compress,
    doctor,
    export,
    inspect,
    latency,
    lint,
    parity,
    search,
    triton,
)
from nxmi_export.cli.console import say_error, say_interrupted
from nxmi_export.cli.processes import leave_launch
from nxmi_export.errors import NxmiError, UsageError

__all__ = ["run"]

DEFAULT_VERB = "export"
_BEFORE_THE_VERB = {"-h", "--help", "--version"}
_OPTIONS = {"help", "version"}  # which other tools have as verbs
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

app = typer.Typer(
    name="nxmi-export",
    help="Export a compressed BERT-class encoder and prove that what runs is what was trained.",
    epilog=(
        "Without a verb, export: [bold]nxmi-export model.pt[/] means "
        "[bold]nxmi-export export model.pt[/]. Exit codes: 0 ok, 1 the work was done and the "
        "answer is no: a gate failed, or training diverged, 2 usage or configuration, "
        "3 capability missing, 4 internal error, 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("export")(export.export_command)
app.command("compress")(compress.compress_command)
app.command("search")(search.search_command)
app.command("latency")(latency.latency_command)
app.command("lint")(lint.lint_command)
app.command("build")(build.build_command)
app.command("certify")(certify.certify_command)
app.command("bench")(bench.bench_command)
app.command("parity")(parity.parity_command)
app.command("triton")(triton.triton_command)
app.command("inspect")(inspect.inspect_command)
app.command("doctor")(doctor.doctor_command)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; only bugs are raised."""
    code = _exit_code(arguments)
    if code != INTERRUPTED:  # which may have been in the midst of an exchange
        leave_launch()
    return code


def _exit_code(arguments: list[str]) -> int:
    try:
        app(_with_verb(arguments), prog_name="nxmi-export")
    except NxmiError as error:
        say_error(error)
        return error.exit_code
    except SystemExit as end:  # how typer ends: usage errors printed, Ctrl-C as 130
        code = 0 if end.code is None else end.code
        if not isinstance(code, int):  # how a library says that it cannot go on
            raise RuntimeError(code) from end
        if code == INTERRUPTED:
            say_interrupted()
        return code
    raise AssertionError("typer always exits")


def _with_verb(arguments: list[str]) -> list[str]:
    """The same command line, beginning with its verb; none at all stays none."""
    verbs = [str(command.name) for command in app.registered_commands]
    if not arguments or arguments[0] in {*verbs, *_BEFORE_THE_VERB}:
        return arguments
    first = arguments[0]
    if first in _OPTIONS and not Path(first).exists():
        raise UsageError(
            first,
            expected="a verb or a model",
            found="neither",
            remedy=f"did you mean --{first}?",
        )
    # A file name or a name on the hub has a dot or a slash; without either it may be a slip.
    meant = [] if set("./") & set(first) else difflib.get_close_matches(first, verbs, n=1)
    if meant and not Path(first).exists():
        raise UsageError(
            first,
            expected="a verb or a model",
            found="neither",
            remedy=f"did you mean {meant[0]}?",
        )
    return [DEFAULT_VERB, *arguments]


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"nxmi-export {__version__}\n")
        raise typer.Exit


@app.callback()
def _nxmi_export(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Hold the options that stand before the verb."""
