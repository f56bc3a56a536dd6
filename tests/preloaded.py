"""What the server of tests/forked.py imports once, for all processes that it forks."""

import gc
import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # as the command line has it

import nxmi_export.compression
import nxmi_export.workflow.compress
import nxmi_export.workflow.parity
import nxmi_export.workflow.search  # noqa: F401
import tests.tiny_models  # noqa: F401

# Every collection of a fork would look through these again, and copy their pages.
gc.collect()
gc.freeze()
