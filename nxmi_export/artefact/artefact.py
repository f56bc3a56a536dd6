"""A deployed model as a directory: reading it back with every file checked against its hash."""

import json
from dataclasses import dataclass
from pathlib import Path

from nxmi_export.artefact.manifest import MANIFEST, FileRecord, Manifest
from nxmi_export.artefact_files import FP16_MODEL, INT4_MODEL, sha256_of, tensor_files
from nxmi_export.errors import ArtefactError

__all__ = ["Artefact", "file_record", "is_artefact", "read_artefact"]

_OPTIONS = {FP16_MODEL: " with --fp16", INT4_MODEL: " with --int4-blocks 64"}  # of export
_GRAPH = ".onnx"
_FORMATS = "nxmi-export/artefact/"  # what every version's manifest calls itself first


@dataclass(frozen=True)
class Artefact:
    """A directory and the manifest that describes it."""

    directory: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """The file `name`; raises ArtefactError where the artefact has none."""
        if name not in self.manifest.files:
            option = _OPTIONS.get(name, "")
            raise ArtefactError(
                self.directory,
                expected=f"an artefact with {name}",
                found=", ".join(sorted(self.manifest.files)),
                remedy=f"export the model again{option}, or build the engine first",
            )
        return self.directory / name

    def source(self) -> Path | str:
        """The checkpoint it was exported from: an absolute path, or a hub name."""
        return self._located(self.manifest.source.path)

    def base(self) -> Path | str | None:
        """What gave a bare state dict its configuration: an absolute path, or a hub name.

        None for every other source. Raises ArtefactError for a directory that is gone.
        """
        named = self.manifest.source.base
        if named is None:
            return None
        base = self._located(named)
        if isinstance(base, str) and ".." in Path(base).parts:
            raise ArtefactError(
                self.directory / base,
                expected="the directory that --base named at the export",
                found="nothing at this path",
                remedy="put it back, or export the model again",
            )
        return base

    def _located(self, name: str) -> Path | str:
        path = (self.directory / name).resolve()
        return path if path.exists() else name


def read_artefact(directory: Path) -> Artefact:
    """Open an artefact; raises ArtefactError for a file that is missing or was changed since.

    So for a graph that reads tensors from a file without a hash, and for a path that nothing that
    runs the files could open.
    """
    _check_name(directory)
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
        if path.suffix == _GRAPH:
            _check_tensors(path, manifest)
    return Artefact(directory, manifest)


def is_artefact(directory: Path) -> bool:
    """Whether `directory` holds a manifest of ours, whatever its version and its other files.

    The name alone does not tell: web applications have a manifest.json too.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("format")).startswith(_FORMATS)


def _check_tensors(path: Path, manifest: Manifest) -> None:
    for name in sorted(tensor_files(path.read_bytes(), path) - manifest.files.keys()):
        raise ArtefactError(
            path,
            expected="a graph whose tensors lie in files that the manifest lists",
            found=f"one that reads {name}",
            remedy="export the model again",
        )


def _check_name(directory: Path) -> None:
    try:
        str(directory.resolve()).encode()
    except UnicodeEncodeError as error:
        raise ArtefactError(
            directory,
            expected="a path in UTF-8, for onnxruntime opens no other",
            found="bytes that are not UTF-8",
            remedy="rename the folder",
        ) from error


def file_record(path: Path) -> FileRecord:
    """The size and hash of `path`."""
    return FileRecord(sha256=sha256_of(path), bytes=path.stat().st_size)
