"""Of the processes of a distributed launch, which speaks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from nxmi_export.cli.console import ERRORS
from nxmi_export.errors import NxmiError

__all__ = ["is_main_process", "said_once_a_machine"]

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


def _first(names: tuple[str, ...]) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)
