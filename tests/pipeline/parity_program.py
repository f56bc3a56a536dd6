"""A whole parity run as a process of its own, so that tests can launch several and let one fail.

    python -m tests.pipeline.parity_program FOLDER ARTEFACT --task TASK --data DATA ...

Takes the command line of `nxmi-export parity` after FOLDER, in which every process leaves the
number of examples that it ran on onnxruntime as ran-RANK. FAIL_IN in the environment names a rank
that is refused its first batch, DIE_IN one that is killed there.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from nxmi_export.__main__ import main
from nxmi_export.backends import Feeds, Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.errors import ShapeError

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


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
    sys.exit(main(["parity", *sys.argv[2:]]))
