"""A whole parity run as processes of their own, so that tests can run several and let one fail.

Arguments: FOLDER and the command line of `nxmi-export parity`. Every process leaves the number of
examples that it ran on onnxruntime as FOLDER/ran-RANK. FAIL_IN in the environment names a rank that
is refused its first batch, DIE_IN one that is killed there. With JUDGE_LAST the first process
judges what was found only after the second has left.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

import nxmi_export.workflow.parity.run as parity_run
from nxmi_export.__main__ import main as command_line
from nxmi_export.backends import Feeds, Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.errors import ShapeError
from nxmi_export.parity import ParityRun
from tests.forked import Ended, run_forked

__all__ = ["run_parity"]

PATIENCE = 60  # seconds in which the other process says why it ends


def run_parity(folder: Path, *arguments: object, **variables: str) -> Ended:
    """Run this program in two processes joined by gloo."""
    given = (folder, *arguments)
    return run_forked(main, given, processes=2, variables=variables, patience=PATIENCE)


def main(given: Sequence[str]) -> None:
    """Compare, and fail on the way where that is asked for."""
    folder, *arguments = given
    _watch(Path(folder))
    code = command_line(["parity", *arguments])
    assert not torch.distributed.is_initialized()  # a group left open may abort at the exit
    Path(folder, f"left-{os.environ['RANK']}").touch()
    sys.exit(code)


def _watch(folder: Path) -> None:
    """Count the examples of this process, and let it fail where that is asked for."""
    run, rank, ran = OnnxRuntimeRunner.run, os.environ["RANK"], folder / f"ran-{os.environ['RANK']}"

    def watched(runner: OnnxRuntimeRunner, feeds: Feeds) -> Outputs:
        if os.environ.get("FAIL_IN") == rank:
            raise ShapeError("a batch", expected="luck", found="none", remedy="try again")
        if os.environ.get("DIE_IN") == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        before = int(ran.read_text()) if ran.exists() else 0
        ran.write_text(str(before + len(feeds["input_ids"])))
        return run(runner, feeds)

    OnnxRuntimeRunner.run = watched  # type: ignore[method-assign]
    if "JUDGE_LAST" in os.environ:
        parity_run._judged = partial(_judged_last, parity_run._judged, folder / "left-1")


def _judged_last(judged: Callable[..., ParityRun], left: Path, *arguments: object) -> ParityRun:
    """The gate, after the other process is seen to have left."""
    for _ in range(600):
        if left.exists():
            return judged(*arguments)
        time.sleep(0.1)
    raise ShapeError("the other", expected="to have left", found="it waits", remedy="release it")
