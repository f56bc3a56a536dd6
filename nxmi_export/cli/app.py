"""The verbs of `nxmi-export` and how a command line finds its verb."""

import sys
from typing import Annotated

import typer

from nxmi_export._version import __version__
from nxmi_export.cli import build, doctor, export, inspect, parity
from nxmi_export.cli.console import say_error, say_interrupted
from nxmi_export.errors import NxmiError

__all__ = ["run"]

DEFAULT_VERB = "export"
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

app = typer.Typer(
    name="nxmi-export",
    help="Export a compressed BERT-class encoder and prove that what runs is what was trained.",
    epilog=(
        "Without a verb, export: [bold]nxmi-export model.pt[/] means "
        "[bold]nxmi-export export model.pt[/]. Exit codes: 0 ok, 1 gate failed, 2 usage or "
        "configuration, 3 capability missing, 4 internal error, 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("export")(export.export_command)
app.command("build")(build.build_command)
app.command("parity")(parity.parity_command)
app.command("inspect")(inspect.inspect_command)
app.command("doctor")(doctor.doctor_command)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; only bugs are raised."""
    verbs = {command.name for command in app.registered_commands}
    if arguments and arguments[0] not in verbs and not arguments[0].startswith("-"):
        arguments = [DEFAULT_VERB, *arguments]
    try:
        app(arguments, prog_name="nxmi-export")
    except NxmiError as error:
        say_error(error)
        return error.exit_code
    except SystemExit as end:  # how typer ends: usage errors printed, Ctrl-C as 130
        code = end.code if isinstance(end.code, int) else 0
        if code == INTERRUPTED:
            say_interrupted()
        return code
    raise AssertionError("typer always exits")


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
