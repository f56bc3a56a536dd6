"""Finished files in, the artefact with them in place of earlier ones of the same names out."""

import os
from collections.abc import Sequence
from pathlib import Path

from nxmi_export.artefact.artefact import Artefact, file_record

__all__ = ["replace_files"]


def replace_files(artefact: Artefact, workshop: Path, names: Sequence[str]) -> None:
    """Move the files `names` from `workshop`, on the same file system, into the artefact.

    The manifest does not list them while they are being replaced; an exception, Ctrl-C included,
    leaves a valid artefact without them.
    """
    directory = artefact.directory
    records = {name: file_record(workshop / name) for name in names}
    others = {name: each for name, each in artefact.manifest.files.items() if name not in names}
    artefact.manifest.model_copy(update={"files": others}).write(directory)
    try:
        for name in names:
            os.replace(workshop / name, directory / name)
        artefact.manifest.model_copy(update={"files": others | records}).write(directory)
    except BaseException:
        # A file that the manifest does not list would be used.
        for name in names:
            (directory / name).unlink(missing_ok=True)
        raise
