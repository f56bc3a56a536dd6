"""The command line, whose steps are captured as graphs that run as they are.

For tests of several processes: each would compile C++ for minutes, of which they have no part.
"""

import sys
from functools import partial

import torch

from nxmi_export.__main__ import main

if __name__ == "__main__":
    torch.compile = partial(torch.compile, backend="eager")
    sys.exit(main())
