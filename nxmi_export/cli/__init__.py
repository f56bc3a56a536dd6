"""The command line: one module a verb; `export` is the default verb."""

from nxmi_export.cli.app import run
from nxmi_export.cli.console import say_internal_error

__all__ = ["run", "say_internal_error"]
