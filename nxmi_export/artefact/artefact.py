"""A deployed model as a directory: reading it back with every file checked against its hash."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from nxmi_export.artefact.manifest import MANIFEST, FileRecord, Manifest
from nxmi_export.errors import ArtefactError

__all__ = [
    "BUILD_LOG",
    "CERTIFICATE",
    "CPU_MODEL",
    "ENGINE_FACTS",
    "FP16_MODEL",
    "FP16_WEIGHTS",
    "INT4_MODEL",
    "INT4_WEIGHTS",
    "MODEL",
    "PLAN",
    "WEIGHTS",
    "Artefact",
    "file_record",
    "is_artefact",
    "read_artefact",
    "sha256_of",
]

MODEL = "model.onnx"  # for TensorRT, and portable
CPU_MODEL = "model.cpu.onnx"  # for onnxruntime on CPU
FP16_MODEL = "model.fp16.onnx"  # for TensorRT: model.onnx with float16 where that is safe
INT4_MODEL = "model.int4.onnx"  # for TensorRT: model.fp16.onnx, or model.onnx, with INT4 blocks
WEIGHTS = "model.onnx.data"  # the tensors of all; each file refers to the same bytes
FP16_WEIGHTS = "model.fp16.onnx.data"  # what FP16_MODEL alone has: its float16 tensors
INT4_WEIGHTS = "model.int4.onnx.data"  # what INT4_MODEL alone has: its codes and scales
PLAN = "model.plan"  # the engine
BUILD_LOG = "build.log"  # of the engine
ENGINE_FACTS = "engine.json"  # what was built, by what, and what its log proves
CERTIFICATE = "certificate.json"  # what is proved of each of the files above
_OPTIONS = {FP16_MODEL: " with --fp16", INT4_MODEL: " with --int4-blocks 64"}  # of export
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


def is_artefact(directory: Path) -> bool:
    """Whether `directory` holds a manifest of ours, whatever its version and its other files.

    The name alone does not tell: web applications have a manifest.json too.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("format")).startswith(_FORMATS)


def file_record(path: Path) -> FileRecord:
    """The size and hash of `path`."""
    return FileRecord(sha256=sha256_of(path), bytes=path.stat().st_size)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, never held in memory whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
