"""The resume file: a training state in, the same state out after the process was killed.

One file holds everything, so that it is replaced by one rename: at any moment there is either the
previous snapshot or the new one, whole. It is data, never code, like `model.pt`.

A snapshot is taken right after an optimizer step, which may have been the one that broke the
weights. So the one before it stays beside it until a step from the new weights had finite losses:
`keep_snapshot`, or `drop_snapshot` where it had not.
"""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nxmi_export.checkpoint.model_file import load_mapping
from nxmi_export.compression.training.fingerprint import ADJUSTABLE, Fingerprint
from nxmi_export.errors import OutputError, TruncatedCheckpoint, UsageError
from nxmi_export.output_files import atomic_file

__all__ = [
    "FILE",
    "drop_snapshot",
    "has_snapshot",
    "keep_snapshot",
    "read_snapshot",
    "snapshot_step",
    "write_snapshot",
]

FORMAT = "nxmi-export/snapshot-2"
_ANEW = "pass --overwrite without --resume to start anew"
FILE = "snapshot.pt"
_BEFORE = "snapshot.before.pt"  # the last good one, while the newest is not known to be good


def snapshot_step(folder: Path) -> int | None:
    """The steps completed in the snapshot that `folder` holds; None where it holds none.

    Raises CheckpointError for a file that is none.
    """
    content = _load(_newest(folder))
    return None if content is None else int(content["step"])


def has_snapshot(folder: Path) -> bool:
    """Whether there is anything in `folder` to continue from."""
    return _newest(folder).exists()


def keep_snapshot(folder: Path) -> None:
    """Let go of the snapshot before the newest, which has proved to be good.

    Raises OutputError.
    """
    with _in_folder(folder):
        if (folder / FILE).exists():
            (folder / _BEFORE).unlink(missing_ok=True)
        elif (folder / _BEFORE).exists():
            # Killed between the two renames: it is the newest itself.
            (folder / _BEFORE).replace(folder / FILE)


def drop_snapshot(folder: Path) -> int | None:
    """Put the snapshot before the newest in its place; the steps completed in it.

    None where there is none before it: the newest stays, as what made it fail may lie in the
    machine. Raises OutputError.
    """
    with _in_folder(folder):
        if not (folder / _BEFORE).exists():
            return None
        (folder / _BEFORE).replace(folder / FILE)
    return snapshot_step(folder)


def read_snapshot(
    folder: Path, wanted: Fingerprint, *, adjusted: bool = False
) -> dict[str, Any] | None:
    """The state that `folder` holds, or None where it holds none.

    With `adjusted`, ADJUSTABLE settings may differ; the state's "continued" then tells how they
    were, as of every earlier time that the run went on with others.

    Raises UsageError for the snapshot of another run, naming what differs, and CheckpointError for
    a damaged file.
    """
    path = _newest(folder)
    content = _load(path)
    if content is None:
        return None
    # as it was before there was a choice
    found: Fingerprint = {"compiled": "no", **content["fingerprint"]}
    different = [name for name in wanted if found.get(name) != wanted[name]]
    adjustable = ADJUSTABLE.keys() >= set(different)
    if different and not (adjusted and adjustable):
        other = "name another rate with --learning-rate, " if adjustable else ""
        raise UsageError(
            path,
            expected=f"a snapshot of this run ({_told(different, wanted)})",
            found=f"one of another run ({_told(different, found)})",
            remedy=f"resume with the settings it was made with, {other}or {_ANEW}",
        )
    # The tensors are mapped from the file, which training is about to replace.
    state = copy.deepcopy(content)
    if different:
        before = {name: found[name] for name in different}
        state["continued"].append({"after_step": state["step"], "before": before})
    return state


def write_snapshot(folder: Path, bound_to: Fingerprint, state: Mapping[str, Any]) -> None:
    """Replace the snapshot in `folder`, which is made where it is missing.

    The one before stays beside it until `keep_snapshot`. Raises OutputError where that cannot be
    done; the previous snapshot then stays.
    """
    with _in_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # A process that was killed while writing left as much as a whole snapshot behind.
        for orphan in folder.glob(f".{FILE}.*"):
            orphan.unlink()
    with atomic_file(folder / FILE) as temporary, temporary.open("wb") as file:
        _save({"format": FORMAT, "fingerprint": dict(bound_to), **state}, file)
        # A rename may reach the disk before the bytes it names.
        file.flush()
        os.fsync(file.fileno())
        if (folder / FILE).exists():
            (folder / FILE).replace(folder / _BEFORE)


def _newest(folder: Path) -> Path:
    """The newest snapshot's file; between the two renames of `write_snapshot`, the one before."""
    newest = folder / FILE
    return newest if newest.exists() or not (folder / _BEFORE).exists() else folder / _BEFORE


@contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            folder,
            expected="a folder for snapshots",
            found=error.strerror or str(error),
            remedy="choose another output path",
        ) from error


def _save(content: Mapping[str, Any], file: Any) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:
        # torch's archive writer hides a full disk behind an error of its own
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _load(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content = load_mapping(path)
    except TruncatedCheckpoint as error:
        raise TruncatedCheckpoint(
            path, expected=error.expected, found=error.found, remedy=_ANEW
        ) from error
    if content.get("format") != FORMAT:
        raise UsageError(
            path,
            expected=f"a training snapshot of the format {FORMAT}",
            found=f"the format {content.get('format')}",
            remedy=_ANEW,
        )
    return content


def _told(names: list[str], fingerprint: Fingerprint) -> str:
    """The values of `names`, "seed 0, recipe 1f2e3d4c5b6a", and of a hash its first digits."""
    return ", ".join(f"{name} {fingerprint.get(name, 'unknown')[:12]}" for name in names)
