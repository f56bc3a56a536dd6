"""A whole parity run as a process of its own, so that tests can launch several and let one fail.

    python -m tests.pipeline.parity_program FOLDER ARTEFACT --task TASK --data DATA ...

Takes the command line of `nxmi-export parity` after FOLDER, in which every process leaves the
number of examples that it ran on onnxruntime as ran-RANK. FAIL_IN in the environment names a rank
that is refused its first batch, DIE_IN one that is killed there. With JUDGE_LAST the first process
judges what was found only after the second has left.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import nxmi_export.workflow.parity.run as parity_run
from nxmi_export.__main__ import main
from nxmi_export.backends import Feeds, Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.errors import ShapeError
from nxmi_export.parity import ParityRun

__all__ = ["run_parity"]

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def run_parity(
    folder: Path, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run this program in two processes joined by gloo."""
    return subprocess.run(
        [sys.executable, *LAUNCH, "-m", __name__, str(folder), *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


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


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
    code = main(["parity", *sys.argv[2:]])
    assert not torch.distributed.is_initialized()  # a group left open may abort at the exit
    Path(sys.argv[1], f"left-{os.environ['RANK']}").touch()
    sys.exit(code)
