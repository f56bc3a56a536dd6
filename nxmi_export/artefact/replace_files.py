"""Finished files in, the artefact with them in place of earlier ones of the same names out."""

import os
from collections.abc import Sequence
from pathlib import Path

from nxmi_export.artefact.artefact import Artefact, file_record
from nxmi_export.artefact.manifest import MANIFEST, Manifest
from nxmi_export.artefact_files import CERTIFICATE
from nxmi_export.errors import ArtefactError
from nxmi_export.sole_writer import sole_writer

__all__ = ["changed_meanwhile", "replace_files"]

_PATIENCE = 30.0  # seconds; another process is done in much less than one


def replace_files(artefact: Artefact, workshop: Path, names: Sequence[str]) -> None:
    """Move the files `names` from `workshop`, on the same file system, into the artefact.

    The manifest does not list them while they are being replaced; an exception, Ctrl-C included,
    leaves a valid artefact without them. Raises ArtefactError where another process has changed
    what `artefact` was when it was read and these files were made from, and OutputError where one
    is replacing files of it.
    """
    directory = artefact.directory
    records = {name: file_record(workshop / name) for name in names}
    with sole_writer(directory / MANIFEST, patience=_PATIENCE, remedy="run the command again"):
        now = _unchanged(artefact, names)
        others = {name: each for name, each in now.files.items() if name not in names}
        without = now.model_copy(update={"files": others})
        without.write(directory)
        try:
            for name in names:
                os.replace(workshop / name, directory / name)
            now.model_copy(update={"files": others | records}).write(directory)
        except BaseException:
            try:
                without.write(directory)  # an interrupt may come when the last one is in place
            finally:
                # A file that the manifest does not list would be used.
                for name in names:
                    (directory / name).unlink(missing_ok=True)
            raise


def _unchanged(artefact: Artefact, names: Sequence[str]) -> Manifest:
    """The manifest as it is now, of the same files but `names` and the certificate.

    A build knows nothing of a certificate, which speaks of the engine before it.
    """
    now, apart = Manifest.read(artefact.directory), {*names, CERTIFICATE}

    def facts(manifest: Manifest) -> Manifest:
        files = {name: each for name, each in manifest.files.items() if name not in apart}
        return manifest.model_copy(update={"files": files})

    if facts(now) != facts(artefact.manifest):
        raise changed_meanwhile(artefact)
    return now


def changed_meanwhile(artefact: Artefact) -> ArtefactError:
    """What to raise where `artefact` is no longer the one that was read."""
    return ArtefactError(
        artefact.directory / MANIFEST,
        expected="the manifest that the work began with",
        found="another, which some other process has written since",
        remedy="run the command again",
    )
