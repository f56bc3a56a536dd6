"""Where an artefact came from: its checkpoint, and the task that was trained."""

from pathlib import Path

from nxmi_export.artefact import Artefact
from nxmi_export.checkpoint import CompressedCheckpoint, checkpoint_sha256, read_checkpoint
from nxmi_export.errors import ArtefactError
from nxmi_export.glue import Task
from nxmi_export.workflow.parity.request import ParityRequest
from nxmi_export.workflow.parity.what_travels import check_what_travels

__all__ = ["bound_checkpoint", "exported_checkpoint", "unfamiliar_tasks"]


def exported_checkpoint(artefact: Artefact, moved_to: str | None) -> CompressedCheckpoint:
    """As `bound_checkpoint`; what travels with the graphs must be the checkpoint's, too."""
    checkpoint = bound_checkpoint(artefact, moved_to)
    check_what_travels(artefact, checkpoint)
    return checkpoint


def bound_checkpoint(artefact: Artefact, moved_to: str | None) -> CompressedCheckpoint:
    """The checkpoint the artefact was exported from; its hash must be the manifest's.

    `moved_to` is its place, if that is no longer the one in the manifest. Raises ArtefactError for
    one that is gone or another.
    """
    source = artefact.manifest.source
    path = Path(moved_to) if moved_to else artefact.source()
    if isinstance(path, Path) and path.exists():
        if source.sha256 is not None and checkpoint_sha256(path) != source.sha256:
            raise ArtefactError(
                path,
                expected=f"the checkpoint with SHA-256 {source.sha256[:12]}… that was exported",
                found="other contents",
                remedy="export it again, or pass the original with --checkpoint",
            )
    elif source.sha256 is not None:
        raise ArtefactError(
            path,
            expected="the checkpoint that the artefact was exported from",
            found="nothing at this path"
            if moved_to
            else "nothing at this path, seen from the artefact",
            remedy="pass its new place with --checkpoint",
        )
    base = artefact.base()
    return read_checkpoint(str(path), base=None if base is None else str(base))


def unfamiliar_tasks(artefact: Artefact, request: ParityRequest) -> tuple[str, ...]:
    """A sentence for each task that the model was not compressed on.

    Labels cannot tell: QNLI's are RTE's. A model whose provenance names no task is left alone.
    """
    provenance = artefact.manifest.provenance
    trained = provenance.get("task"), provenance.get("task_description")
    if not isinstance(trained[0], str):
        return ()
    return tuple(
        f"The model was compressed on {trained[0]} and not on {_told(task, trained[0])}: there its "
        "scores say what the export keeps, and nothing of how good the model is."
        for task in request.tasks
        if (task.name, task.description) != trained
    )


def _told(task: Task, trained: str) -> str:
    return task.name if task.name != trained else f"what {task.argument} calls so now"
