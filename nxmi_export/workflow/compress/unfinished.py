"""What a run that ends early leaves to go on from, told when it resumes and when it fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nxmi_export.compression.progress import StageBegun
from nxmi_export.compression.training import snapshot_step
from nxmi_export.errors import OutputError
from nxmi_export.workflow.compress.outputs import Outputs
from nxmi_export.workflow.compress.run_log import RunLog

__all__ = ["first_stage", "told_what_stays"]


def first_stage(outputs: Outputs, *, resume: bool) -> StageBegun:
    """How the run begins; names the case that it was to go on and there is nothing to go on from.

    Raises CheckpointError for a damaged snapshot.
    """
    stage = "evaluating the dense model"
    if resume and snapshot_step(outputs.snapshots) is None:
        stage += "; there is no snapshot to resume, so this run begins anew"
    return StageBegun(stage)


@contextmanager
def told_what_stays(outputs: Outputs, log: RunLog) -> Iterator[None]:
    """Output errors of the block say that --resume continues, once there is something to resume.

    Those of the log do so themselves.
    """
    try:
        yield
    except OutputError as error:
        if not log.entries or Path(error.subject) == log.path:
            raise
        step = snapshot_step(outputs.snapshots)
        kept = "the log is kept, and there was no snapshot before"
        if step is not None:
            kept = f"the log and the snapshot after step {step} are kept"
        remedy = f"put that right and continue with --resume; {kept}"
        raise OutputError(
            error.subject, expected=error.expected, found=error.found, remedy=remedy
        ) from error
