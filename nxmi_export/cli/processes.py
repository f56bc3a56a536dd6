"""Of the processes of a distributed launch, which speaks, and how each leaves."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nxmi_export.cli.console import ERRORS
from nxmi_export.errors import NxmiError

__all__ = ["is_main_process", "leave_launch", "said_once_a_machine"]

# As torchrun and accelerate, Intel's and Microsoft's MPI, Open MPI and MVAPICH tell them.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_LOCAL_RANKS = (
    "LOCAL_RANK",
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
)


def is_main_process() -> bool:
    """Whether this process writes the results; a process alone does."""
    return _first(_RANKS) == 0


@contextmanager
def said_once_a_machine() -> Iterator[None]:
    """Of the processes of one machine the first speaks; they all find the same mistake.

    What one of them alone could find is raised in all, by `failing_together`. An error that nobody
    planned is another matter: it may be this process's alone.
    """
    try:
        yield
    except (NxmiError, KeyboardInterrupt):
        ERRORS.quiet = _first(_LOCAL_RANKS) != 0
        raise


def leave_launch() -> None:
    """Part from the other processes while the interpreter is whole.

    Where a thread still lets go of the last message as the interpreter ends, the process aborts,
    and the launcher ends the others with it. No exchange may be under way.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return  # it joined nobody
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _first(names: tuple[str, ...]) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)
