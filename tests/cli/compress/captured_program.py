"""The command line, whose steps are captured as graphs that run as they are.

For tests of several processes: each would compile C++ for minutes, of which they have no part.
"""

from collections.abc import Sequence
from functools import partial

import torch

from tests.forked import command_line

__all__ = ["captured"]


def captured(arguments: Sequence[str]) -> None:
    torch.compile = partial(torch.compile, backend="eager")
    command_line(arguments)
