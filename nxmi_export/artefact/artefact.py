"""A deployed model as a directory: reading it back with every file checked against its hash."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nxmi_export.artefact.manifest import FileRecord, Manifest
from nxmi_export.errors import ArtefactError

__all__ = [
    "CPU_MODEL",
    "MODEL",
    "WEIGHTS",
    "Artefact",
    "file_record",
    "read_artefact",
    "sha256_of",
]

MODEL = "model.onnx"  # for TensorRT, and portable
CPU_MODEL = "model.cpu.onnx"  # for onnxruntime on CPU
WEIGHTS = "model.onnx.data"  # the tensors of both; each file refers to the same bytes


@dataclass(frozen=True)
class Artefact:
    """A directory and the manifest that describes it."""

    directory: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """The file `name`; raises ArtefactError where the artefact has none."""
        if name not in self.manifest.files:
            raise ArtefactError(
                self.directory,
                expected=f"an artefact with {name}",
                found=", ".join(sorted(self.manifest.files)),
                remedy="export the model again, or build the engine first",
            )
        return self.directory / name

    def source(self) -> Path | str:
        """The checkpoint it was exported from: an absolute path, or a hub name."""
        path = (self.directory / self.manifest.source.path).resolve()
        return path if path.exists() else self.manifest.source.path


def read_artefact(directory: Path) -> Artefact:
    """Open an artefact; raises ArtefactError for a file that is missing or was changed since."""
    manifest = Manifest.read(directory)
    for name, record in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise ArtefactError(
                path,
                expected="every file of the manifest",
                found="no such file",
                remedy="export the model again",
            )
        if path.stat().st_size != record.bytes or sha256_of(path) != record.sha256:
            raise ArtefactError(
                path,
                expected=f"the file with SHA-256 {record.sha256[:12]}…",
                found="other contents",
                remedy="export the model again, or restore the file",
            )
    return Artefact(directory, manifest)


def file_record(path: Path) -> FileRecord:
    """The size and hash of `path`."""
    return FileRecord(sha256=sha256_of(path), bytes=path.stat().st_size)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, never held in memory whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
