"""The artefact: a directory of deployable files, each bound to the manifest by its hash."""

from nxmi_export.artefact.artefact import (
    CPU_MODEL,
    FP16_MODEL,
    FP16_WEIGHTS,
    MODEL,
    WEIGHTS,
    Artefact,
    file_record,
    is_artefact,
    read_artefact,
    sha256_of,
)
from nxmi_export.artefact.manifest import MANIFEST, FileRecord, LinearRecord, Manifest, Source

__all__ = [
    "CPU_MODEL",
    "FP16_MODEL",
    "FP16_WEIGHTS",
    "MANIFEST",
    "MODEL",
    "WEIGHTS",
    "Artefact",
    "FileRecord",
    "LinearRecord",
    "Manifest",
    "Source",
    "file_record",
    "is_artefact",
    "read_artefact",
    "sha256_of",
]
